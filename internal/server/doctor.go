package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	if err := config.Check(); err != nil {
		return levelProblem, err.Error(), "correct it: the server does not start with it"
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
	path := filepath.Join(config.DataDir, DatabaseFile)
	if err := sqlstore.CheckMoved(ctx, sqlstore.MovePlace{URL: config.Database, Path: path}); err != nil {
		return levelProblem, err.Error(), "start the server on the database that it says, or finish the move"
	}
	if config.Database != "" {
		return checkPostgres(ctx, config)
	}
	if detail := lostUnderServer(config); detail != "" {
		return levelProblem, detail, "ask the server's /readyz what to do"
	}
	if lost, ok := errors.AsType[*lostDatabaseError](findLostDatabase(config)); ok {
		return levelProblem, lost.what, lost.advice()
	}
	condition, err := sqlstore.InspectSQLite(ctx, path)
	if damaged, ok := errors.AsType[*sqlstore.DamagedError](err); ok {
		return levelProblem, damaged.What(), sqlstore.AdviceDamaged
	}
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
		return levelProblem, err.Error(), "let the user that runs the server read and write the file"
	case len(condition.Problems) > 0:
		return levelProblem, path + " is damaged: " + strings.Join(condition.Problems, "; "), sqlstore.AdviceDamaged
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
	condition, err := sqlstore.InspectPostgres(ctx, config.Database, config.postgresOptions()...)
	switch few, isFew := errors.AsType[*sqlstore.TooFewError](err); {
	case isFew && isHeld(config.DataDir):
		return levelWarning, few.Error(), "leave room beside the server for doctor"
	case err != nil:
		return levelProblem, err.Error(),
			"do what it says, or check --database, and that PostgreSQL runs and lets this machine in"
	case condition.Hindrance != "":
		return levelProblem, condition.Server + ": " + condition.Hindrance,
			"run the GRANT as the owner of the database: without it the server does not start"
	case condition.Version > condition.LatestVersion:
		newer := &sqlstore.NewerDatabaseError{Version: condition.Version, Known: condition.LatestVersion}
		return levelProblem, newer.Error(), "run the newer release"
	case condition.Owner != "" && !isHeld(config.DataDir):
		return levelProblem, condition.Server + ", in use by a server with another data directory, " + condition.Owner,
			"stop that server first"
	}
	return levelOK, fmt.Sprintf("%s, %s", condition.Server, condition.Route), ""
}

// checkTombstones reads what a start reads.
func checkTombstones(_ context.Context, config Config) (level, detail, advice string) {
	log := &tombstoneLog{path: filepath.Join(config.DataDir, TombstonesFile)}
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
	if level, _, _ := checkMasterKey(ctx, config); level == levelProblem {
		return levelOK, path + ", whose keys work with the right master key alone", ""
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
	megabytes := 1 + users*bytesPerUser/1_000_000
	return levelOK, fmt.Sprintf("%d users; when all of them are listed, that takes about %d MB", users, megabytes), ""
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
	if len(config.ACMEDomains) > 0 {
		return checkACMECertificates(config)
	}
	certFile, keyFile, selfSigned := certificateOf(config, config.DataDir)
	if certFile == "" || keyFile == "" { // which is the configuration's matter
		return levelOK, "only half of it is configured", ""
	}
	certificate, err := readPair(certFile, keyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && selfSigned:
		return levelOK, "the first start makes a self-signed one", ""
	case err != nil:
		return levelProblem, err.Error(), "give --tls-cert and --tls-key a PEM certificate and its key"
	}
	if selfSigned {
		return checkSelfSigned(config, certificate.Leaf, keyFile)
	}
	level, detail, advice = checkExpiry(certificate.Leaf)
	if info, err := os.Stat(keyFile); level == levelOK && err == nil && info.Mode().Perm()&0o007 != 0 {
		return levelWarning, keyFile + " can be read by every user of this machine",
			"let nobody else read the key of the certificate"
	}
	return level, detail, advice
}

func checkSelfSigned(config Config, certificate *x509.Certificate, keyFile string) (level, detail, advice string) {
	if err := secret.CheckPrivate(keyFile); err != nil {
		return levelProblem, err.Error(), "run it: whoever has the key can pass for this server"
	}
	left := time.Until(certificate.NotAfter)
	detail = describeCertificate(certificate)
	switch {
	case left < certificateMargin && left < 0 && isHeld(config.DataDir):
		return levelProblem, detail + ", self-signed",
			"see in the server's log why it makes no new one: clients refuse this one"
	case left < certificateMargin:
		return levelWarning, detail + ", self-signed", "the server makes a new one by itself, when it starts or runs"
	}
	renewed := certificate.NotAfter.Add(-certificateMargin).UTC().Format(time.DateOnly)
	return levelWarning, detail + ", self-signed, renewed by itself after " + renewed,
		"for users outside this machine give --tls-cert and --tls-key, or --acme-domain, or put a proxy with a certificate " +
			"in front"
}

// checkACMECertificates looks at the certificates that were got so far.
func checkACMECertificates(config Config) (level, detail, advice string) {
	level = levelOK
	var details []string
	for _, domain := range config.ACMEDomains {
		file := filepath.Join(config.DataDir, acmeFolder, domain)
		certificate, err := readPair(file, file)
		if errors.Is(err, fs.ErrNotExist) {
			details = append(details, domain+": none yet; the server asks for one")
			continue
		}
		if err != nil {
			return levelProblem, err.Error(), "move the file away: the server gets the certificate again"
		}
		if worse, found, why := checkExpiry(certificate.Leaf); worse != levelOK {
			return worse, found, why + "; the log says why it could not be renewed"
		}
		details = append(details, describeCertificate(certificate.Leaf))
	}
	return level, strings.Join(details, "; "), ""
}

// What part of a certificate's life may be left for a warning and for a problem, and how much time that is at most:
// those who renew a certificate of 90 days by themselves do so when 30 are left.
const (
	warnAtPart, warnAtMost       = 3, 30 * 24 * time.Hour
	problemAtPart, problemAtMost = 10, 7 * 24 * time.Hour
)

// checkExpiry tells how long a certificate is still valid, and whether it is to be renewed.
func checkExpiry(certificate *x509.Certificate) (level, detail, advice string) {
	now, life := time.Now(), certificate.NotAfter.Sub(certificate.NotBefore)
	left := certificate.NotAfter.Sub(now)
	detail = describeCertificate(certificate)
	switch {
	case left <= 0:
		return levelProblem, detail, "renew it: clients refuse it"
	case now.Before(certificate.NotBefore):
		return levelProblem, detail + ", and only from " + certificate.NotBefore.UTC().Format(time.RFC3339) + " on",
			"check the clock: clients refuse it until then"
	case left < min(life/problemAtPart, problemAtMost):
		return levelProblem, detail, "renew it now; a running server takes a new one by itself"
	case left < min(life/warnAtPart, warnAtMost):
		return levelWarning, detail, "renew it soon; a running server takes a new one by itself"
	}
	return levelOK, detail, ""
}

// describeCertificate tells what a certificate is for, until when, and how many days are left.
func describeCertificate(certificate *x509.Certificate) string {
	names := strings.Join(certificate.DNSNames, ", ")
	if names == "" {
		names = "a certificate for no host name"
	}
	left := time.Until(certificate.NotAfter)
	remaining := fmt.Sprintf("%d days left", int(left/(24*time.Hour)))
	if left <= 0 {
		remaining = "expired"
	}
	return fmt.Sprintf("%s, valid until %s, %s", names, certificate.NotAfter.UTC().Format(time.DateOnly), remaining)
}

func checkAddresses(ctx context.Context, config Config) (level, detail, advice string) {
	var free, busy []string
	var refused error
	for _, listening := range config.listening() {
		if err := probeAddress(ctx, listening); err != nil {
			busy, refused = append(busy, listening.address), err
			continue
		}
		free = append(free, listening.address)
	}
	switch {
	case len(busy) == 0:
	case isHeld(config.DataDir):
		return levelOK, strings.Join(busy, ", ") + " in use, as by the server of this data directory (pid " +
			holderOf(config.DataDir) + ")", ""
	default:
		return levelProblem, strings.Join(busy, ", ") + " cannot be listened on: " + refused.Error(),
			"choose another address, or stop what listens there"
	}
	return levelOK, strings.Join(free, ", ") + " can be listened on", ""
}

// probeAddress tells why an address cannot be listened on. What systemd is to open is its own matter.
func probeAddress(ctx context.Context, listening listening) error {
	at, err := parseAddress(listening.option, listening.address)
	switch {
	case err != nil || at.passed != "":
		return err
	case at.unix != "":
		if _, err := os.Stat(filepath.Dir(at.unix)); err != nil {
			return err
		}
		if err := socketIsTaken(ctx, at.unix); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", at.tcp)
	if err == nil {
		_ = listener.Close() // nobody connected
	}
	return err
}

// askServer bounds how long a running server may take to say whether it is ready.
const askServer = 5 * time.Second

// checkServer asks the server that uses these addresses whether it is ready. It may have lost its data directory.
func checkServer(ctx context.Context, config Config) (level, detail, advice string) {
	ctx, cancel := context.WithTimeout(ctx, askServer)
	defer cancel()
	held, asked := isHeld(config.DataDir), false
	for _, base := range config.listening() {
		at, err := parseAddress(base.option, base.address)
		if err != nil || base.option == "debug" || at.passed != "" {
			continue
		}
		asked = true
		ready, says, err := askReadiness(ctx, base.option, at)
		switch {
		case err != nil: // nobody is there, or it is no server of ours
		case !ready:
			return levelProblem, base.address + " says: " + says,
				"put that right, or wait for it if the server starts or stops; its log says more"
		case held:
			return levelOK, "the server that uses the data directory is ready", ""
		}
	}
	if held && asked {
		return levelWarning, "a server uses the data directory; it does not answer at these addresses",
			"give doctor the same --http and --https as the server, in flags, environment or --config; " +
				"if they are the same, the server's log says why it does not answer"
	}
	if held {
		return levelOK, "a server uses the data directory; it does not answer at these addresses", ""
	}
	return levelOK, "none uses the data directory", ""
}

// askReadiness asks the server at an address, which speaks a scheme.
func askReadiness(ctx context.Context, scheme string, at address) (ready bool, says string, err error) {
	// Whether its certificate is good is another question.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // as said
	defer transport.CloseIdleConnections()
	host := "localhost"
	if at.unix != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", at.unix)
		}
	} else {
		if _, port, err := net.SplitHostPort(at.tcp); err != nil || port == "0" {
			return false, "", errors.New("where it listens is not known")
		}
		host = reachable(at.tcp)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+"/readyz", nil)
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
