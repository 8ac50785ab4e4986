package apitest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// authority is a certificate authority that speaks ACME (RFC 8555), as far as one client needs it. It gives a certificate
// for a domain to who proves with one kind of challenge that the domain is its own; it believes every signature.
type authority struct {
	t         *testing.T
	challenge string // tls-alpn-01 or http-01
	root      *x509.Certificate
	key       *ecdsa.PrivateKey
	url       string
	// reached is closed when the addresses are set that the domain leads to.
	reached     chan struct{}
	http, https string

	mu     sync.Mutex
	orders int    // guarded by mu
	domain string // guarded by mu
	proved bool   // guarded by mu
	chain  []byte // guarded by mu
	broken bool   // guarded by mu: it proves nothing
}

const challengeToken = "a-token-of-the-authority"

func newAuthority(t *testing.T, challenge string) *authority {
	t.Helper()
	a := &authority{t: t, challenge: challenge, reached: make(chan struct{})}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour * 365), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	listening := httptest.NewServer(a)
	t.Cleanup(listening.Close)
	a.url = listening.URL
	return a
}

// payload reads what a request has signed.
func payload(r *http.Request, into any) error {
	var signed struct {
		Payload string `json:"payload"`
	}
	if err := json.NewDecoder(r.Body).Decode(&signed); err != nil || signed.Payload == "" {
		return err
	}
	text, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", rand.Text())
	answer := func(status int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	var sent struct {
		Identifiers []map[string]string `json:"identifiers"`
		CSR         string              `json:"csr"`
	}
	if r.Method == http.MethodPost {
		if err := payload(r, &sent); err != nil {
			answer(http.StatusBadRequest, map[string]string{"type": "urn:ietf:params:acme:error:malformed", "detail": err.Error()})
			return
		}
	}
	if r.URL.Path == "/challenge" {
		if err := a.validate(); err != nil {
			a.t.Logf("the authority: %v", err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.URL.Path {
	case "/directory":
		answer(http.StatusOK, map[string]any{
			"newNonce": a.url + "/nonce", "newAccount": a.url + "/account", "newOrder": a.url + "/new-order",
			"revokeCert": a.url + "/revoke", "keyChange": a.url + "/key", "meta": map[string]any{"termsOfService": a.url + "/terms"},
		})
	case "/nonce":
	case "/account":
		w.Header().Set("Location", a.url+"/account")
		answer(http.StatusCreated, map[string]string{"status": "valid"})
	case "/new-order":
		a.orders++
		a.domain, a.proved, a.chain = sent.Identifiers[0]["value"], false, nil
		w.Header().Set("Location", a.url+"/order")
		answer(http.StatusCreated, a.order())
	case "/order":
		answer(http.StatusOK, a.order())
	case "/authorization", "/challenge":
		status := map[bool]string{true: "valid", false: "pending"}[a.proved]
		if a.broken {
			status = "invalid"
		}
		challenge := map[string]string{"type": a.challenge, "url": a.url + "/challenge", "token": challengeToken, "status": status}
		if r.URL.Path == "/challenge" {
			answer(http.StatusOK, challenge)
			return
		}
		answer(http.StatusOK, map[string]any{
			"status": status, "identifier": map[string]string{"type": "dns", "value": a.domain}, "challenges": []any{challenge},
		})
	case "/finalize":
		if err := a.issue(sent.CSR); err != nil {
			answer(http.StatusForbidden, map[string]string{"type": "urn:ietf:params:acme:error:badCSR", "detail": err.Error()})
			return
		}
		w.Header().Set("Location", a.url+"/order")
		answer(http.StatusOK, a.order())
	case "/certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(a.chain)
	default:
		answer(http.StatusNotFound, map[string]string{"detail": r.URL.Path})
	}
}

// order needs mu.
func (a *authority) order() map[string]any {
	status := "pending"
	switch {
	case a.chain != nil:
		status = "valid"
	case a.proved:
		status = "ready"
	case a.broken:
		status = "invalid"
	}
	return map[string]any{
		"status": status, "identifiers": []any{map[string]string{"type": "dns", "value": a.domain}},
		"authorizations": []string{a.url + "/authorization"}, "finalize": a.url + "/finalize", "certificate": a.url + "/certificate",
	}
}

// validate goes where the domain leads to and looks for the proof.
func (a *authority) validate() error {
	<-a.reached
	a.mu.Lock()
	domain, broken := a.domain, a.broken
	a.mu.Unlock()
	if broken {
		return errors.New("it proves nothing")
	}
	prove := a.proveByTLS
	if a.challenge == "http-01" {
		prove = a.proveByHTTP
	}
	if err := prove(domain); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.proved = true
	return nil
}

func (a *authority) proveByTLS(domain string) error {
	conn, err := tls.Dial("tcp", a.https, &tls.Config{ServerName: domain, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	identifier := []int{1, 3, 6, 1, 5, 5, 7, 1, 31}
	leaf := conn.ConnectionState().PeerCertificates[0]
	if !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(identifier) }) {
		return errors.New("the certificate of the proof has no identifier")
	}
	return nil
}

func (a *authority) proveByHTTP(domain string) error {
	request, err := http.NewRequest(http.MethodGet, "http://"+a.http+"/.well-known/acme-challenge/"+challengeToken, nil)
	if err != nil {
		return err
	}
	request.Host = domain
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasPrefix(string(body), challengeToken+".") {
		return fmt.Errorf("the proof is %q, %w", body, err)
	}
	return nil
}

// issue signs a certificate. It needs mu.
func (a *authority) issue(encoded string) error {
	der, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	if !a.proved || !slices.Equal(request.DNSNames, []string{a.domain}) {
		return fmt.Errorf("nobody has proved that %v is its own", request.DNSNames)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(a.orders) + 100), DNSNames: request.DNSNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, a.root, request.PublicKey, a.key)
	if err != nil {
		return err
	}
	a.chain = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})...)
	return nil
}

// asked returns how many orders there were.
func (a *authority) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.orders
}

// TestACME lets servers get a certificate from an authority by themselves, by each kind of proof, and use it again after
// a restart.
func TestACME(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			const domain = "chat.example.com"
			a := newAuthority(t, challenge)
			data := t.TempDir()
			var config server.Config
			var log safeBuffer
			configure := func(c *server.Config) {
				c.DataDir, c.HTTPS = data, "127.0.0.1:0"
				c.ACMEDomains, c.ACMEDirectory, c.ACMEEmail = []string{domain}, a.url+"/directory", "ops@example.com"
				c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
				config = *c
			}
			s := apitest.Start(t, "", configure)
			a.http, a.https = s.HTTPAddr, s.HTTPSAddr
			close(a.reached)
			expectTrusted(t, a, s.HTTPSAddr, domain)
			expectTrusted(t, a, s.HTTPSAddr, "") // who names no domain gets it too
			if _, err := tls.Dial("tcp", s.HTTPSAddr, &tls.Config{ServerName: "other.example.com", InsecureSkipVerify: true}); err == nil {
				t.Error("somebody else's domain is served")
			}
			await(t, "the log to say so", func() bool { return strings.Contains(log.String(), "there is a certificate for a domain") })
			if end, _ := metric(t, s, "rollcall_certificate_expiry_timestamp_seconds"); end < float64(time.Now().Add(89*24*time.Hour).Unix()) {
				t.Errorf("the certificate ends at %v", end)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := apitest.Start(t, "", configure)
			expectTrusted(t, a, again.HTTPSAddr, domain)
			if asked := a.asked(); asked != 1 {
				t.Errorf("%d certificates were asked for", asked)
			}
			again.Reload()
			for _, finding := range server.Diagnose(t.Context(), config) {
				if finding.Check == "certificate" && (finding.Level != "ok" || !strings.Contains(finding.Detail, domain+", valid until")) {
					t.Errorf("doctor: %+v", finding)
				}
			}
		})
	}
}

// expectTrusted demands that who trusts the authority can call the server.
func expectTrusted(t *testing.T, a *authority, address, domain string) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.root)
	config := &tls.Config{RootCAs: roots, ServerName: domain}
	if domain == "" {
		config.InsecureSkipVerify, config.ServerName = true, ""
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: outagePatience}, "tcp", address, config)
	if err != nil {
		t.Fatalf("%q at %s: %v", domain, address, err)
	}
	defer conn.Close()
	if err := conn.ConnectionState().PeerCertificates[0].VerifyHostname("chat.example.com"); err != nil {
		t.Error(err)
	}
}

// TestACMEWithoutProof starts a server whose domain leads elsewhere: it serves HTTP, says in the log what is missing, and
// ends at once when it is told to, also when the authority does not answer.
func TestACMEWithoutProof(t *testing.T) {
	t.Parallel()
	refusing := newAuthority(t, "tls-alpn-01")
	refusing.broken = true
	close(refusing.reached)
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var log safeBuffer
	for _, directory := range []string{refusing.url + "/directory", "http://" + silent.Addr().String()} {
		s := apitest.Start(t, "", func(c *server.Config) {
			c.HTTPS, c.ACMEDomains, c.ACMEDirectory = "127.0.0.1:0", []string{"chat.example.com"}, directory
			c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		})
		if response, _ := raw(t, s, http.MethodGet, "/readyz", ""); response.StatusCode != http.StatusOK {
			t.Errorf("/readyz: %d", response.StatusCode)
		}
		if directory == refusing.url+"/directory" {
			await(t, "the log to say what is missing", func() bool {
				return strings.Contains(log.String(), "there is no certificate for a domain")
			})
			expectMetric(t, s, "rollcall_certificate_expiry_timestamp_seconds", 0)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
