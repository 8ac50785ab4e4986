package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// Finding is the outcome of one check of Diagnose.
type Finding struct {
	Check string `json:"check"`
	// Level is "ok", "warning" or "problem".
	Level string `json:"level"`
	// Detail is what was found.
	Detail string `json:"detail"`
	// Advice is what to do about it; empty when all is well.
	Advice string `json:"advice,omitempty"`
}

const (
	levelOK      = "ok"
	levelWarning = "warning"
	levelProblem = "problem"
	// spareDisk is the free space below which a warning is due.
	spareDisk = 1 << 30
	// slowSync is the time for a write to reach the disk above which a warning is due.
	slowSync = 20 * time.Millisecond
)

// Diagnose checks everything that a server with this configuration depends on, whether one is running or not.
func Diagnose(ctx context.Context, config Config) []Finding {
	config = config.OrDefault()
	var findings []Finding
	for _, check := range []struct {
		name string
		run  func(context.Context, Config) (level, detail, advice string)
	}{
		{"config", checkConfig},
		{"disk", checkDisk},
		{"master key", checkMasterKey},
		{"database", checkDatabase},
		{"memory", checkMemory},
		{"credentials", checkCredentials},
		{"tombstones", checkTombstones},
		{"clock", checkClock},
		{"certificate", checkCertificate},
		{"addresses", checkAddresses},
		{"server", checkServer},
	} {
		level, detail, advice := check.run(ctx, config)
		oneLine := strings.Join(strings.Fields(detail), " ") // some errors have many
		findings = append(findings, Finding{Check: check.name, Level: level, Detail: oneLine, Advice: advice})
	}
	return findings
}

func checkConfig(_ context.Context, config Config) (level, detail, advice string) {
	if config.HTTP == "" && config.HTTPS == "" {
		return levelProblem, "neither --http nor --https has an address", "give one of them an address"
	}
	if config.Database != "" && !strings.HasPrefix(config.Database, "postgres://") &&
		!strings.HasPrefix(config.Database, "postgresql://") {
		return levelProblem, "--database is not the URL of a PostgreSQL database", "give it one that begins with postgres://"
	}
	if (config.TLSCert == "") != (config.TLSKey == "") {
		return levelProblem, "only one of --tls-cert and --tls-key is given",
			"give both, or none for a self-signed certificate"
	}
	info, err := os.Stat(config.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return levelOK, config.DataDir + " does not exist yet; the first start makes it", ""
	case err != nil:
		return levelProblem, err.Error(), "give --data a directory that can be read"
	case !info.IsDir():
		return levelProblem, config.DataDir + " is not a directory", "give --data a directory"
	case info.Mode().Perm()&0o077 != 0:
		return levelWarning, config.DataDir + " can be entered by other users of this machine",
			"run `chmod 700 " + config.DataDir + "`"
	}
	return levelOK, "data directory " + config.DataDir, ""
}

func checkDisk(_ context.Context, config Config) (level, detail, advice string) {
	folder := config.DataDir
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		folder = filepath.Dir(filepath.Clean(folder))
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(folder, &stat); err != nil {
		return levelProblem, err.Error(), "check that the disk is there"
	}
	free := stat.Bavail * uint64(stat.Bsize)
	probe, err := os.CreateTemp(folder, ".rollcall-doctor-*")
	if err != nil {
		return levelProblem, err.Error(), "make " + folder + " writable for the user that runs the server"
	}
	defer os.Remove(probe.Name())
	defer probe.Close()
	if _, err := probe.Write(make([]byte, 4096)); err != nil {
		return levelProblem, err.Error(), "make room on the disk"
	}
	started := time.Now()
	if err := probe.Sync(); err != nil {
		return levelProblem, err.Error(), "check the disk: it does not accept writes"
	}
	took := time.Since(started)
	space := fmt.Sprintf("%.1f GB", float64(free)/1e9)
	if free < spareDisk {
		space = fmt.Sprintf("%.1f MB", float64(free)/1e6)
	}
	detail = fmt.Sprintf("%s free, a write reaches the disk in %s", space, took.Round(10*time.Microsecond))
	switch {
	case free < spareDisk:
		return levelWarning, detail, "make room: when the disk is full, no change is accepted"
	case took > slowSync:
		return levelWarning, detail, "expect slow writes: every change waits for the disk"
	}
	return levelOK, detail, ""
}

func checkMasterKey(ctx context.Context, config Config) (level, detail, advice string) {
	masters, origin, err := readMasterKeys(config)
	sealed, databaseErr := readSealedKeys(ctx, config)
	if databaseErr != nil { // which is the database's matter
		sealed = nil
	}
	switch {
	case err != nil && config.MasterKey != "":
		return levelProblem, err.Error(), "correct --master-key"
	case errors.Is(err, fs.ErrNotExist) && len(sealed) > 0:
		return levelProblem, missingMasterKey(origin), "put it back from its backup"
	case errors.Is(err, fs.ErrNotExist):
		return levelOK, "the first start makes one", ""
	case errors.Is(err, fs.ErrPermission):
		return levelProblem, err.Error(), "let the user that runs the server read the file, and nobody else"
	case err != nil:
		return levelProblem, err.Error(), "put the file right as the message says"
	}
	keyring, err := secret.NewKeyring(masters...)
	switch {
	case err != nil:
		return levelProblem, err.Error(), "put the right one there"
	case isForeign(keyring, sealed):
		return levelProblem, foreignMasterKey(origin), "put the right one back from its backup"
	case len(masters) > 1 && config.MasterKey == "":
		return levelWarning, fmt.Sprintf("%s holds %d keys", origin, len(masters)),
			"when the server's log says that everything is encrypted under the current one, run `rollcall master-key prune`"
	}
	return levelOK, origin, ""
}

func checkDatabase(ctx context.Context, config Config) (level, detail, advice string) {
	if config.Database != "" {
		return checkPostgres(ctx, config)
	}
	path := filepath.Join(config.DataDir, DatabaseFile)
	if detail := lostUnderServer(config); detail != "" {
		return levelProblem, detail, "ask the server's /readyz what to do"
	}
	if lost, ok := errors.AsType[*lostDatabaseError](findLostDatabase(config)); ok {
		return levelProblem, lost.what, lost.advice()
	}
	condition, err := sqlstore.InspectSQLite(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return levelOK, "the first start makes " + path, ""
	case errors.Is(err, sqlstore.ErrLogDamaged) && isHeld(config.DataDir):
		return levelProblem, err.Error(),
			"restart the server with SIGTERM, not with SIGKILL: it saves in the database what the log held"
	case errors.Is(err, sqlstore.ErrLogDamaged):
		return levelProblem, err.Error(),
			"restore a backup; or to go on without what was written last, move " + path + "-wal away"
	case err != nil:
		return levelProblem, err.Error(),
			"let the user that runs the server read and write the file, or restore a backup if it is damaged"
	case len(condition.Problems) > 0:
		return levelProblem, strings.Join(condition.Problems, "; "),
			"stop the server, keep a copy of the file, and restore a backup"
	case condition.Version > condition.LatestVersion:
		newer := &sqlstore.NewerDatabaseError{Version: condition.Version, Known: condition.LatestVersion}
		return levelProblem, newer.Error(), "run the newer release"
	case condition.Version < condition.LatestVersion:
		detail = fmt.Sprintf(
			"schema version %d; the next start migrates it to %d", condition.Version, condition.LatestVersion,
		)
		return levelOK, detail, ""
	}
	detail = fmt.Sprintf(
		"%s is sound; apps: %d, users: %d, changes: %d", path, condition.Apps, condition.Users, condition.Changes,
	)
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return levelWarning, detail + "; other users of this machine can read it", "run `chmod 600 " + path + "`"
	}
	return levelOK, detail, ""
}

func checkPostgres(ctx context.Context, config Config) (level, detail, advice string) {
	condition, err := sqlstore.InspectPostgres(ctx, config.Database)
	switch {
	case err != nil:
		return levelProblem, err.Error(), "check --database, and that PostgreSQL runs and lets this machine in"
	case condition.Version > condition.LatestVersion:
		newer := &sqlstore.NewerDatabaseError{Version: condition.Version, Known: condition.LatestVersion}
		return levelProblem, newer.Error(), "run the newer release"
	case condition.Owner != "" && !isHeld(config.DataDir):
		return levelProblem, condition.Server + ", in use by a server with another data directory, " + condition.Owner,
			"stop that server first"
	}
	return levelOK, condition.Server, ""
}

// checkTombstones reads what a start reads.
func checkTombstones(_ context.Context, config Config) (level, detail, advice string) {
	log := &tombstoneLog{path: filepath.Join(config.DataDir, tombstonesFile)}
	tombstones, err := log.read()
	if err != nil {
		return levelProblem, err.Error(),
			"let the user that runs the server read and write " + log.path + ", or restore it from a backup"
	}
	return levelOK, fmt.Sprintf("permanent deletions noted beside the database: %d", len(tombstones)), ""
}

func checkCredentials(ctx context.Context, config Config) (level, detail, advice string) {
	path := filepath.Join(config.DataDir, CredentialsFile)
	known, err := readOwnCredentials(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return levelOK, "there is no " + path, ""
	case errors.Is(err, fs.ErrPermission):
		return levelProblem, err.Error(), "let the user that runs the server read the file, and nobody else"
	case err != nil:
		return levelProblem, err.Error(), "put the file right, or move it away: the server starts without it"
	}
	apps, err := readAppIDs(ctx, config)
	switch {
	case err != nil: // which is the database's matter
	case len(apps) == 0:
		lost := errNoSuchApp(path, known)
		return levelProblem, lost.what, lost.advice() + "; to begin anew with an empty database, move " + path + " away"
	case !slices.Contains(apps, known.AppID):
		return levelWarning, fmt.Sprintf("%s is for app %s, which the database does not have", path, known.AppID),
			"if the app was deleted, move the file away; else this is another database"
	}
	if lost, err := lostKeysIn(ctx, config, path, known); err == nil && lost.what() != "" { // an error is another's matter
		return levelWarning, lost.what(), lost.advice()
	}
	return levelOK, path, ""
}

// bytesPerUser is what lists of a user take in memory, with a name of two words and a few tags: some 90, and what the
// collector needs besides.
const bytesPerUser = 150

// checkMemory tells what lists of everybody take.
func checkMemory(ctx context.Context, config Config) (level, detail, advice string) {
	users, err := countUsers(ctx, config)
	if err != nil { // which is the database's matter
		return levelOK, "nothing is known of the users", ""
	}
	return levelOK, fmt.Sprintf("%d users; when all of them are listed, that takes about %d MB", users, 1+users*bytesPerUser/1_000_000), ""
}

func countUsers(ctx context.Context, config Config) (int64, error) {
	if config.Database != "" {
		return sqlstore.UsersInPostgres(ctx, config.Database)
	}
	path := filepath.Join(config.DataDir, DatabaseFile)
	if _, err := os.Stat(path); err != nil {
		return 0, err
	}
	if lost := lostUnderServer(config); lost != "" {
		return 0, errors.New(lost)
	}
	return sqlstore.UsersInSQLite(path)
}

// readAppIDs returns the ids of the apps in a database that a server may be using.
func readAppIDs(ctx context.Context, config Config) ([]string, error) {
	if config.Database != "" {
		return sqlstore.AppsInPostgres(ctx, config.Database)
	}
	if lost := lostUnderServer(config); lost != "" {
		return nil, errors.New(lost)
	}
	return sqlstore.AppsInSQLite(filepath.Join(config.DataDir, DatabaseFile))
}

// builtAfter is a time that no right clock is before.
var builtAfter = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func checkClock(_ context.Context, config Config) (level, detail, advice string) {
	now := config.Now()
	if now.Before(builtAfter) {
		return levelProblem, "the clock says " + now.UTC().Format(time.RFC3339),
			"set the clock: times in the data and the life of tokens depend on it"
	}
	if clockIsLoose() {
		return levelWarning, now.UTC().Format(time.RFC3339) + ", not synchronized",
			"run an NTP client, such as chrony, unless the host of this machine does"
	}
	return levelOK, now.UTC().Format(time.RFC3339), ""
}

func checkCertificate(_ context.Context, config Config) (level, detail, advice string) {
	if config.HTTPS == "" {
		return levelOK, "HTTPS is off", ""
	}
	certFile, keyFile, own := config.TLSCert, config.TLSKey, true
	if certFile == "" {
		folder := filepath.Join(config.DataDir, tlsFolder)
		certFile, keyFile, own = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"), false
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !own:
		return levelOK, "the first start makes a self-signed one", ""
	case err != nil:
		return levelProblem, err.Error(), "give --tls-cert and --tls-key a PEM certificate and its key"
	}
	if !own {
		if err := secret.CheckPrivate(keyFile); err != nil {
			return levelProblem, err.Error(), "run it: whoever has the key can pass for this server"
		}
	} else if info, err := os.Stat(keyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
		return levelWarning, keyFile + " can be read by every user of this machine",
			"let nobody else read the key of the certificate"
	}
	left := time.Until(certificate.Leaf.NotAfter)
	names := strings.Join(certificate.Leaf.DNSNames, ", ")
	if names == "" {
		names = "a certificate for no host name"
	}
	detail = fmt.Sprintf("%s, valid until %s", names, certificate.Leaf.NotAfter.UTC().Format(time.DateOnly))
	switch {
	case left < certificateMargin && !own && left < 0 && isHeld(config.DataDir):
		return levelProblem, detail + ", self-signed", "restart the server, which makes a new one: clients refuse this one"
	case left < certificateMargin && !own:
		return levelWarning, detail + ", self-signed", "the next start makes a new one"
	case left < 0:
		return levelProblem, detail, "renew it: clients refuse it"
	case left < certificateMargin:
		return levelWarning, detail, "renew it soon"
	case !own:
		renewed := certificate.Leaf.NotAfter.Add(-certificateMargin).UTC().Format(time.DateOnly)
		return levelWarning, detail + ", self-signed, renewed by a start after " + renewed,
			"for users outside this machine give --tls-cert and --tls-key, or put a proxy with a certificate in front"
	}
	return levelOK, detail, ""
}

func checkAddresses(ctx context.Context, config Config) (level, detail, advice string) {
	var free, busy []string
	var refused error
	for _, address := range []string{config.HTTP, config.HTTPS, config.Debug} {
		if address == "" {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			busy, refused = append(busy, address), err
			continue
		}
		free = append(free, address)
		_ = listener.Close() // nobody connected
	}
	switch {
	case len(busy) == 0:
	case isHeld(config.DataDir):
		return levelOK, strings.Join(busy, ", ") + " cannot be listened on: a server with this data directory runs", ""
	default:
		return levelProblem, strings.Join(busy, ", ") + " cannot be listened on: " + refused.Error(),
			"choose another address, or stop what listens there"
	}
	return levelOK, strings.Join(free, ", ") + " can be listened on", ""
}

// askServer bounds how long a running server may take to say whether it is ready.
const askServer = 5 * time.Second

// checkServer asks the server that uses these addresses whether it is ready. It may have lost its data directory.
func checkServer(ctx context.Context, config Config) (level, detail, advice string) {
	ctx, cancel := context.WithTimeout(ctx, askServer)
	defer cancel()
	held := isHeld(config.DataDir)
	for _, base := range []struct{ scheme, address string }{{"http://", config.HTTP}, {"https://", config.HTTPS}} {
		host, port, err := net.SplitHostPort(base.address)
		if err != nil || port == "0" {
			continue
		}
		if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
			host = "localhost"
		}
		ready, says, err := askReadiness(ctx, base.scheme+net.JoinHostPort(host, port))
		switch {
		case err != nil: // nobody is there, or it is no server of ours
		case !ready:
			return levelProblem, base.address + " says: " + says, "do what it says"
		case held:
			return levelOK, "the server that uses the data directory is ready", ""
		}
	}
	if held {
		return levelOK, "a server uses the data directory; it does not answer at these addresses", ""
	}
	return levelOK, "none uses the data directory", ""
}

func askReadiness(ctx context.Context, base string) (ready bool, says string, err error) {
	// Whether its certificate is good is another question.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // as said
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false, "", err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return false, "", err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return true, "", nil
	}
	var body struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&body)
	if err == nil && body.Error.Message == "" {
		err = errors.New("not a server of ours")
	}
	return false, body.Error.Message, err
}
