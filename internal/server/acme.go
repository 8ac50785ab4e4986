package server

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	// acmeFolder holds the account's key and the certificates, within the data directory.
	acmeFolder = "acme"
	// askForCertificates is how often it is looked whether there is a certificate for every domain. It is also how soon
	// one is asked for again that could not be had.
	askForCertificates = time.Hour
)

// acmeCertificates are got from a certificate authority when they are first needed, and renewed before they end.
type acmeCertificates struct {
	manager   *autocert.Manager
	transport *closingTransport
	domains   []string
	logger    *slog.Logger

	mu sync.Mutex
	// ends are when the certificates end, by domain. Guarded by mu
	ends map[string]time.Time
}

func newACMECertificates(config Config, dir *dataDir) *acmeCertificates {
	transport := newClosingTransport()
	return &acmeCertificates{
		domains: config.ACMEDomains, logger: config.Logger, transport: transport, ends: map[string]time.Time{},
		manager: &autocert.Manager{
			Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(dir.file(acmeFolder)), Email: config.ACMEEmail,
			HostPolicy: autocert.HostWhitelist(config.ACMEDomains...),
			Client: &acme.Client{
				DirectoryURL: config.ACMEDirectory, UserAgent: "rollcall",
				HTTPClient: &http.Client{Transport: transport, Timeout: time.Minute},
			},
		},
	}
}

func (a *acmeCertificates) tlsConfig() *tls.Config {
	config := a.manager.TLSConfig()
	config.MinVersion, config.GetCertificate = tls.VersionTLS12, a.get
	return config
}

// get returns the certificate for a connection. Who names no domain, as those do who call an address, gets the first.
func (a *acmeCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "" {
		unnamed := *hello
		unnamed.ServerName = a.domains[0]
		hello = &unnamed
	}
	certificate, err := a.manager.GetCertificate(hello)
	if err == nil && certificate.Leaf != nil && !slices.Contains(hello.SupportedProtos, acme.ALPNProto) {
		a.mu.Lock()
		a.ends[hello.ServerName] = certificate.Leaf.NotAfter
		a.mu.Unlock()
	}
	return certificate, err
}

func (a *acmeCertificates) expire() (first time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, end := range a.ends {
		if first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// follow asks for the certificates before the first client does, and says in the log when one cannot be had.
func (a *acmeCertificates) follow(ctx context.Context) {
	defer context.AfterFunc(ctx, a.transport.close)() // also while it asks
	ticker := time.NewTicker(askForCertificates)
	defer ticker.Stop()
	for {
		a.ask(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// ask gets the certificate of every domain, as a client of today would.
func (a *acmeCertificates) ask(ctx context.Context) {
	for _, domain := range a.domains {
		certificate, err := a.get(&tls.ClientHelloInfo{
			ServerName: domain, SupportedVersions: []uint16{tls.VersionTLS13},
			CipherSuites:     []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.logger.Error(
				"there is no certificate for a domain; it is asked for again by the next client and in an hour. "+
					"The authority must reach this server: port 443 of the domain is to end at --https, or port 80 at --http",
				slog.String("domain", domain), slog.Any("error", err),
			)
		case certificate.Leaf != nil:
			a.logger.Info("there is a certificate for a domain", slog.String("domain", domain),
				slog.Time("valid_until", certificate.Leaf.NotAfter))
		}
	}
}

func (a *acmeCertificates) reload() {
	a.logger.Info("told to reload; certificates come from the authority by themselves, and nothing is to be read again")
}

// closingTransport carries the requests to the authority, which end when it is closed.
type closingTransport struct {
	inner   *http.Transport
	running context.Context //nolint:containedctx // it is the transport's life
	end     context.CancelFunc
}

func newClosingTransport() *closingTransport {
	t := &closingTransport{inner: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}}
	t.running, t.end = context.WithCancel(context.Background())
	return t
}

func (t *closingTransport) close() {
	t.end()
	t.inner.CloseIdleConnections()
}

// RoundTrip implements http.RoundTripper.
func (t *closingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(request.Context())
	unlink := context.AfterFunc(t.running, cancel) //nolint:contextcheck // it ends with either
	end := func() { unlink(); cancel() }
	response, err := t.inner.RoundTrip(request.WithContext(ctx))
	if err != nil {
		end()
		return nil, err
	}
	response.Body = &endingBody{response.Body, end}
	return response, nil
}

// endingBody calls end when it is closed.
type endingBody struct {
	io.ReadCloser
	end func()
}

func (b *endingBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
