package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// longestLifetime is how long a certificate may be valid for browsers to accept it.
const longestLifetime = 397 * 24 * time.Hour

// TestOwnCertificate starts servers without a certificate, and with one of their own that has ended, is about to, or is
// good.
func TestOwnCertificate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		left           time.Duration // of the one that is there; zero for none
		says           string
		diagnosed      string
		isMade, isKept bool
	}{
		"none": {says: "made a self-signed certificate", isMade: true},
		"ended": {
			left: -time.Hour, says: "the self-signed certificate is renewed", diagnosed: "the server makes a new one by itself",
			isMade: true,
		},
		"about to end": {
			left: 29 * 24 * time.Hour, says: "the self-signed certificate is renewed",
			diagnosed: "the server makes a new one by itself", isMade: true,
		},
		"good": {left: 31 * 24 * time.Hour, diagnosed: "renewed by itself after", isKept: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			if test.left != 0 {
				writeCertificate(t, data, test.left)
			}
			before, _ := os.ReadFile(certificateOf(data))
			if test.diagnosed != "" {
				expectFinding(t, data, test.diagnosed)
			}
			p := startServer(t, "--data", data, "--https", "127.0.0.1:0", "--log-level", "info")
			if test.says != "" {
				ctx, cancel := waitContext(t)
				defer cancel()
				if _, err := p.await(ctx, p.stderr, regexp.MustCompile(test.says)); err != nil {
					t.Errorf("the log does not say %q: %v\n%s", test.says, err, p.stderr)
				}
			}
			after, err := os.ReadFile(certificateOf(data))
			must(t, err)
			if kept := string(before) == string(after); kept != test.isKept {
				t.Errorf("want %v for whether the certificate stays", test.isKept)
			}
			if !test.isMade {
				return
			}
			block, _ := pem.Decode(after)
			made, err := x509.ParseCertificate(block.Bytes)
			must(t, err)
			if lifetime := made.NotAfter.Sub(made.NotBefore) + time.Second; lifetime > longestLifetime {
				t.Errorf("it is valid for %v, more than %v", lifetime, longestLifetime)
			}
			if left := time.Until(made.NotAfter); left < 300*24*time.Hour {
				t.Errorf("it is valid for %v", left)
			}
		})
	}
}

func certificateOf(data string) string { return filepath.Join(data, "tls", "cert.pem") }

// writeCertificate writes a certificate such as a server makes, with some time left.
func writeCertificate(t *testing.T, data string, left time.Duration) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(certificateOf(data)), 0o700))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-400 * 24 * time.Hour), NotAfter: time.Now().Add(left),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	keyFile := filepath.Join(data, "tls", "key.pem")
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	must(t, os.WriteFile(certificateOf(data), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// expectFinding demands that doctor finds no problem, and says something about the certificate.
func expectFinding(t *testing.T, data, says string) {
	t.Helper()
	text, err := runDoctor(t, "--data", data, "--http", "127.0.0.1:0", "--https", "127.0.0.1:0")
	if err != nil || !strings.Contains(text, says) {
		t.Errorf("doctor does not say %q: %v\n%s", says, err, text)
	}
}
