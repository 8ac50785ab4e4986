package server

import (
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
	"time"

	"github.com/rollcall/rollcall/internal/secret"
)

const (
	// certificateLifetime is 397 days, the longest that browsers accept, to the second.
	certificateLifetime = 397*24*time.Hour - time.Second
	// certificateMargin is how long before its end a self-signed certificate is replaced.
	certificateMargin = 30 * 24 * time.Hour
)

// loadCertificate returns the configured certificate, or a self-signed one for local use that it makes and renews.
func loadCertificate(config Config, dir *dataDir) (tls.Certificate, error) {
	if config.TLSCert != "" || config.TLSKey != "" {
		certificate, err := tls.LoadX509KeyPair(config.TLSCert, config.TLSKey)
		if err != nil {
			return certificate, fmt.Errorf("load certificate: %w", err)
		}
		return certificate, nil
	}
	folder := dir.file(tlsFolder)
	certFile, keyFile := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil {
		err = secret.CheckPrivate(keyFile)
	}
	switch {
	case err == nil && time.Until(certificate.Leaf.NotAfter) > certificateMargin:
		return certificate, nil
	case err == nil:
		config.Logger.Warn(
			"the self-signed certificate is renewed; whoever has accepted the old one has to accept the new one",
			slog.Time("valid_until", certificate.Leaf.NotAfter),
		)
	case !errors.Is(err, fs.ErrNotExist):
		return certificate, fmt.Errorf("load certificate: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return certificate, fmt.Errorf("make certificate: %w", err)
	}
	if err := writeSelfSigned(certFile, keyFile); err != nil {
		return certificate, fmt.Errorf("make certificate: %w", err)
	}
	if certificate, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		return certificate, fmt.Errorf("load certificate: %w", err)
	}
	until := certificate.Leaf.NotAfter
	config.Logger.Info(
		"made a self-signed certificate", slog.Time("valid_until", until),
		slog.Time("renewed_by_a_start_after", until.Add(-certificateMargin)),
	)
	return certificate, nil
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
