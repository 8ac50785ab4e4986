package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/internal/secret"
)

const (
	// certificateLifetime is 397 days, the longest that browsers accept, to the second.
	certificateLifetime = 397*24*time.Hour - time.Second
	// certificateMargin is how long before its end a self-signed certificate is replaced.
	certificateMargin = 30 * 24 * time.Hour
	// lookAtCertificate is how often it is looked whether the files of the certificate have changed. What has changed is
	// read when it has stood still from one look to the next: a certificate and its key are written one after the other.
	lookAtCertificate = time.Second
	// renewAgain is how long a renewal of a self-signed certificate waits that has failed.
	renewAgain = time.Hour
)

// certificates are what HTTPS serves. What changes counts for new connections; those that are open are not touched.
type certificates interface {
	tlsConfig() *tls.Config
	// follow brings them up to date until ctx ends.
	follow(ctx context.Context)
	// reload reads them again, and logs the outcome.
	reload()
	// expire returns when the first of them ends; the zero time when there is none yet.
	expire() time.Time
}

// newCertificates returns the certificates that the configuration names.
func newCertificates(config Config, dir *dataDir, outcomes reloadOutcomes) (certificates, error) {
	if len(config.ACMEDomains) > 0 {
		return newACMECertificates(config, dir), nil
	}
	return newCertificateFiles(config, dir.path, outcomes)
}

// reloadOutcomes counts certificates that were taken and those that were refused. Its functions may be nil.
type reloadOutcomes struct{ taken, refused func() }

// certificateFiles are the certificate in a file and its key in another, which are read again when they change. Those
// that the server has made itself are made anew before they end.
type certificateFiles struct {
	certFile, keyFile string
	selfSigned        bool
	logger            *slog.Logger
	outcomes          reloadOutcomes
	serving           atomic.Pointer[tls.Certificate]

	mu sync.Mutex
	// tried are the files as they were read last, and seen as they were looked at last. Guarded by mu
	tried, seen filesStamp
	// renewed is when it was last tried to make a self-signed certificate anew. Guarded by mu
	renewed time.Time
}

func newCertificateFiles(config Config, dataDir string, outcomes reloadOutcomes) (*certificateFiles, error) {
	c := &certificateFiles{logger: config.Logger, outcomes: outcomes}
	c.certFile, c.keyFile, c.selfSigned = certificateOf(config, dataDir)
	c.tried = stampOf(c.certFile, c.keyFile)
	certificate, err := c.read()
	if c.selfSigned && (errors.Is(err, fs.ErrNotExist) || err == nil && isOutdated(certificate)) {
		certificate, err = c.makeSelfSigned(certificate)
	}
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	c.serving.Store(&certificate)
	c.seen = c.tried
	if left := time.Until(certificate.Leaf.NotAfter); left <= 0 {
		c.logger.Error("the certificate has expired: clients refuse it", slog.String("file", c.certFile),
			slog.Time("valid_until", certificate.Leaf.NotAfter))
	}
	return c, nil
}

// certificateOf returns the files that a configuration names, or those of the self-signed certificate.
func certificateOf(config Config, dataDir string) (certFile, keyFile string, selfSigned bool) {
	if config.TLSCert != "" || config.TLSKey != "" {
		return config.TLSCert, config.TLSKey, false
	}
	return SelfSignedCertificate(dataDir), filepath.Join(dataDir, tlsFolder, "key.pem"), true
}

// SelfSignedCertificate returns the file of the certificate that a server makes for itself in its data directory, where
// it has no other.
func SelfSignedCertificate(dataDir string) string {
	return filepath.Join(dataDir, tlsFolder, "cert.pem")
}

// isOutdated reports whether a self-signed certificate is to be made anew.
func isOutdated(certificate tls.Certificate) bool {
	return time.Until(certificate.Leaf.NotAfter) <= certificateMargin
}

// read reads the files as they are now.
func (c *certificateFiles) read() (tls.Certificate, error) {
	certificate, err := readPair(c.certFile, c.keyFile)
	if err == nil && c.selfSigned {
		err = secret.CheckPrivate(c.keyFile)
	}
	return certificate, err
}

// readPair reads a certificate and its key, and says in words what is wrong with them.
func readPair(certFile, keyFile string) (tls.Certificate, error) {
	certificate, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	if !bytes.Contains(certificate, []byte("-----BEGIN CERTIFICATE-----")) {
		return tls.Certificate{}, fmt.Errorf("%s holds no certificate in PEM", certFile)
	}
	if !bytes.Contains(key, []byte("PRIVATE KEY-----")) {
		return tls.Certificate{}, fmt.Errorf("%s holds no private key in PEM", keyFile)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		return pair, fmt.Errorf("the key in %s is not that of the certificate in %s", keyFile, certFile)
	case err != nil:
		return pair, fmt.Errorf("%s and %s are not a certificate and its key in PEM: %w", certFile, keyFile, err)
	}
	return pair, nil
}

// makeSelfSigned makes a certificate in the place of the one before, which is zero when there is none.
func (c *certificateFiles) makeSelfSigned(before tls.Certificate) (tls.Certificate, error) {
	if before.Leaf != nil {
		c.logger.Warn(
			"the self-signed certificate is renewed; whoever has accepted the old one has to accept the new one",
			slog.Time("valid_until", before.Leaf.NotAfter),
		)
	}
	if err := os.MkdirAll(filepath.Dir(c.certFile), 0o700); err != nil {
		return before, err
	}
	if err := writeSelfSigned(c.certFile, c.keyFile); err != nil {
		return before, err
	}
	c.tried = stampOf(c.certFile, c.keyFile)
	certificate, err := c.read()
	if err == nil {
		until := certificate.Leaf.NotAfter
		c.logger.Info(
			"made a self-signed certificate", slog.Time("valid_until", until),
			slog.Time("renewed_after", until.Add(-certificateMargin)),
		)
	}
	return certificate, err
}

func (c *certificateFiles) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.serving.Load(), nil },
	}
}

func (c *certificateFiles) expire() time.Time { return c.serving.Load().Leaf.NotAfter }

func (c *certificateFiles) follow(ctx context.Context) {
	ticker := time.NewTicker(lookAtCertificate)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.look()
		case <-ctx.Done():
			return
		}
	}
}

// look reads the files again when they have changed since they were read, and stand still.
func (c *certificateFiles) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := stampOf(c.certFile, c.keyFile)
	stands := now == c.seen
	c.seen = now
	outdated := c.selfSigned && isOutdated(*c.serving.Load()) && time.Since(c.renewed) > renewAgain
	if stands && (now != c.tried || outdated) {
		c.take(now)
	}
}

func (c *certificateFiles) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := stampOf(c.certFile, c.keyFile)
	c.seen = now
	c.take(now)
}

// take serves what is in the files from now on, unless it is no good. It needs mu.
func (c *certificateFiles) take(now filesStamp) {
	c.tried = now
	certificate, err := c.read()
	if err == nil && c.selfSigned && isOutdated(certificate) {
		c.renewed = time.Now()
		certificate, err = c.makeSelfSigned(certificate)
		c.seen = c.tried
	}
	served := c.serving.Load()
	if err == nil {
		err = refuseUntimely(certificate.Leaf, served.Leaf)
	}
	if err != nil {
		c.logger.Error(
			"the new certificate is refused, and the one before is served as it was", slog.Any("error", err),
			slog.String("file", c.certFile), slog.Time("valid_until", served.Leaf.NotAfter),
		)
		count(c.outcomes.refused)
		return
	}
	c.serving.Store(&certificate)
	log := c.logger.With(slog.String("file", c.certFile), slog.Time("valid_until", certificate.Leaf.NotAfter))
	if bytes.Equal(certificate.Leaf.Raw, served.Leaf.Raw) {
		log.Info("the certificate was read again, and is the same")
	} else {
		log.Info("the certificate was read again, and new connections get it")
	}
	count(c.outcomes.taken)
}

func count(outcome func()) {
	if outcome != nil {
		outcome()
	}
}

// refuseUntimely returns an error when clients would refuse a new certificate, unless they refuse the one before too.
func refuseUntimely(certificate, before *x509.Certificate) error {
	now := time.Now()
	switch {
	case !now.Before(before.NotAfter):
		return nil
	case !now.Before(certificate.NotAfter):
		return fmt.Errorf("it has expired, on %s", certificate.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(certificate.NotBefore):
		return fmt.Errorf("it is valid only from %s on", certificate.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// filesStamp tells two files from what they were.
type filesStamp [2]struct {
	written, size int64
	inode         uint64
}

func stampOf(files ...string) (stamp filesStamp) {
	for i, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		stamp[i].written, stamp[i].size = info.ModTime().UnixNano(), info.Size()
		if system, ok := info.Sys().(*syscall.Stat_t); ok {
			stamp[i].inode = system.Ino
		}
	}
	return stamp
}

func writeSelfSigned(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	names := []string{"localhost", "*.localhost"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	begins := time.Now().Add(-time.Hour)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Rollcall local certificate"}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, NotBefore: begins,
		NotAfter: begins.Add(certificateLifetime), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, // so that it can be trusted as it is, with `curl --cacert`
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	err = secret.WritePrivate(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	if err != nil {
		return err
	}
	return secret.WritePrivate(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
