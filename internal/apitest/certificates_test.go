package apitest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// keyPair is a certificate and its key in PEM.
type keyPair struct {
	serial           int64
	until            time.Time
	certificate, key []byte
}

// newKeyPair makes a certificate with a serial number, for localhost, that is valid between two times from now.
func newKeyPair(t *testing.T, serial int64, from, until time.Duration) keyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := keyPair{serial: serial, until: time.Now().Add(until).Truncate(time.Second)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(from), NotAfter: p.until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return p
}

// tlsFiles are the files that a server is told to serve.
type tlsFiles struct {
	t         *testing.T
	cert, key string
}

// write writes one file after the other, in place, as a careless script does.
func (f tlsFiles) write(certificate, key []byte) {
	f.t.Helper()
	for file, content := range map[string][]byte{f.key: key, f.cert: certificate} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

// servedSerial returns the serial number of the certificate that a new connection gets.
func servedSerial(t *testing.T, address string) int64 {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(apitest.Context(t), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// secureClient returns a client that takes any certificate, and how many connections it has made.
func secureClient(t *testing.T, keepAlive bool) (*http.Client, *atomic.Int64) {
	t.Helper()
	var dialed atomic.Int64
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: !keepAlive, MaxIdleConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: outagePatience}, &dialed
}

// TestCertificateReplaced replaces the certificate of a server again and again, by good ones and by bad ones, under a
// live socket and under calls, on connections that are kept and on new ones.
func TestCertificateReplaced(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	folder := t.TempDir()
	files := tlsFiles{t, filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")}
	first := newKeyPair(t, 1, -time.Hour, year)
	files.write(first.certificate, first.key)
	var log safeBuffer
	s := startSockets(t, "", func(config *server.Config) {
		config.HTTPS, config.TLSCert, config.TLSKey = "127.0.0.1:0", files.cert, files.key
		config.RateLimits.Token, config.Logger = -1, slog.New(slog.NewJSONHandler(&log, nil))
	}, "ada", "bob")
	_, token := s.JWT(t, "ada")

	through, _ := secureClient(t, true)
	ada := apitest.DialURL(t, "wss://"+s.HTTPSAddr+"/", through)
	ada.Auth(s, apitest.Login{UID: "ada", Device: "a", Body: everybody})

	stop := make(chan struct{})
	var calls sync.WaitGroup
	var answered atomic.Int64
	call := func(c *http.Client) {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := getMe(c, s, token); err != nil {
				t.Errorf("a call under the replacement: %v", err)
				return
			}
			answered.Add(1)
		}
	}
	kept, dialed := secureClient(t, true)
	anew, _ := secureClient(t, false)
	calls.Go(func() { call(kept) })
	calls.Go(func() { call(anew) })
	defer calls.Wait()
	defer close(stop)

	underTraffic := func() {
		t.Helper()
		before := answered.Load()
		await(t, "calls to be answered", func() bool { return answered.Load() >= before+20 || t.Failed() })
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		ada.Hears("bob online")
		bob.Close(1000, "")
		ada.Hears("bob offline")
	}
	underTraffic()
	for serial := int64(2); serial <= 4; serial++ { // by itself
		next := newKeyPair(t, serial, -time.Hour, year+time.Duration(serial)*time.Hour)
		files.write(next.certificate, next.key)
		await(t, "the new certificate to be served", func() bool { return servedSerial(t, s.HTTPSAddr) == serial })
		expectMetric(t, s, "rollcall_certificate_expiry_timestamp_seconds", float64(next.until.Unix()))
		underTraffic()
	}
	other := newKeyPair(t, 99, -time.Hour, year)
	expired, early := newKeyPair(t, 98, -2*time.Hour, -time.Hour), newKeyPair(t, 97, time.Hour, year)
	for _, bad := range []struct {
		name             string
		certificate, key []byte
		says             string
	}{
		{"no certificate", []byte("rubbish"), other.key, "holds no certificate in PEM"},
		{"empty", nil, nil, "holds no certificate in PEM"},
		{"no key", other.certificate, []byte("rubbish"), "holds no private key in PEM"},
		{"another's key", other.certificate, first.key, "is not that of the certificate in"},
		{"cut off", other.certificate[:len(other.certificate)/2], other.key, "are not a certificate and its key in PEM"},
		{"expired", expired.certificate, expired.key, "it has expired"},
		{"not valid yet", early.certificate, early.key, "it is valid only from"},
	} {
		told := strings.Count(log.String(), "the new certificate is refused")
		files.write(bad.certificate, bad.key)
		await(t, bad.name+" to be refused", func() bool {
			return strings.Count(log.String(), "the new certificate is refused") > told
		})
		if !strings.Contains(log.String()[strings.LastIndex(log.String(), "the new certificate is refused"):], bad.says) {
			t.Errorf("%s: the log does not say %q: %s", bad.name, bad.says, log.String())
		}
		if serial := servedSerial(t, s.HTTPSAddr); serial != 4 {
			t.Errorf("%s: certificate %d is served", bad.name, serial)
		}
		if bytes.Contains([]byte(log.String()), []byte("PRIVATE KEY-")) {
			t.Error("the log has a key")
		}
	}
	os.Remove(files.key)
	s.Reload()
	if !strings.Contains(log.String(), "no such file") || servedSerial(t, s.HTTPSAddr) != 4 {
		t.Error("without a key the certificate does not stay what it was")
	}
	last := newKeyPair(t, 5, -time.Hour, year)
	files.write(last.certificate, last.key)
	s.Reload() // without waiting for the files to stand still
	if serial := servedSerial(t, s.HTTPSAddr); serial != 5 {
		t.Errorf("after a reload certificate %d is served", serial)
	}
	underTraffic()
	if made := dialed.Load(); made != 1 {
		t.Errorf("the connection that was kept was made %d times", made)
	}
}

// getMe makes a call over HTTPS with a user's token.
func getMe(c *http.Client, s *apitest.Server, token string) error {
	request, err := http.NewRequest(http.MethodGet, "https://"+s.HTTPSAddr+"/v3/me", nil)
	if err != nil {
		return err
	}
	request.Header = http.Header{"Appid": {s.Credentials.AppID}, "Authtoken": {token}}
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"uid":"ada"`)) {
		return fmt.Errorf("%d %s", response.StatusCode, body)
	}
	return nil
}

// TestOwnCertificateRenewedWhileRunning lets a server find that its self-signed certificate is about to end.
func TestOwnCertificateRenewedWhileRunning(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	var folder string
	s := apitest.Start(t, "", func(config *server.Config) {
		config.HTTPS, config.Logger = "127.0.0.1:0", slog.New(slog.NewJSONHandler(&log, nil))
		folder = filepath.Join(config.DataDir, "tls")
	})
	before := servedSerial(t, s.HTTPSAddr)
	old := newKeyPair(t, 7, -time.Hour, 29*24*time.Hour)
	tlsFiles{t, filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")}.write(old.certificate, old.key)
	await(t, "the certificate to be renewed", func() bool {
		return strings.Contains(log.String(), "the self-signed certificate is renewed")
	})
	await(t, "the renewed certificate to be served", func() bool {
		serial := servedSerial(t, s.HTTPSAddr)
		return serial != before && serial != 7
	})
}
