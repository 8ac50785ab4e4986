package bus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/rollcall/rollcall/internal/bus"
	"github.com/rollcall/rollcall/internal/storetest"
)

func natsNetwork(config bus.NATSConfig) network {
	return network{
		open: func(t *testing.T, options bus.Options) bus.Bus { return openNATS(t, config, options) },
		back: func(*testing.T) {},
	}
}

func TestClustersShareNATS(t *testing.T) {
	t.Parallel()
	server := startNATS(t, natsserver.Options{})
	one, two := natsNetwork(bus.NATSConfig{URL: server.url, Cluster: "one"}), natsNetwork(bus.NATSConfig{URL: server.url})
	from, stranger, to := one.join(t), two.join(t), one.join(t)
	l, other := to.listen(t, ""), two.join(t).listen(t, "")
	stranger.publish(t, "a", []byte("of two"))
	other.expect(t, "a", []byte("of two"))
	from.publish(t, "a", []byte("of one"))
	l.expect(t, "a", []byte("of one"))
	other.expectNothing(t)
}

func TestNATSWithSmallMessages(t *testing.T) {
	t.Parallel()
	server := startNATS(t, natsserver.Options{MaxPayload: 4096})
	n := natsNetwork(bus.NATSConfig{URL: server.url})
	from, to := n.join(t), n.join(t)
	l := to.listen(t, "")
	from.publish(t, "large", make([]byte, 100_000))
	l.expect(t, "large", make([]byte, 100_000))
}

func TestNATSOfSeveralServers(t *testing.T) {
	t.Parallel()
	gone, server := startNATS(t, natsserver.Options{}), startNATS(t, natsserver.Options{})
	gone.stop()
	n := natsNetwork(bus.NATSConfig{URL: gone.url + "," + server.url})
	from, to := n.join(t), n.join(t)
	l := to.listen(t, "")
	from.publish(t, "a", nil)
	l.expect(t, "a", nil)
}

func TestNATSThatRefusesIsAskedAgain(t *testing.T) {
	t.Parallel()
	server := startNATS(t, natsserver.Options{Username: "u", Password: "old"})
	var log strings.Builder
	n := network{open: func(t *testing.T, options bus.Options) bus.Bus {
		options.Log = slog.New(slog.NewTextHandler(&log, nil))
		return openNATS(t, bus.NATSConfig{URL: strings.Replace(server.url, "://", "://u:newsecret@", 1)}, options)
	}}
	s := n.joinUnready(t)
	storetest.Await(t, s.down, "NATS to refuse the password")
	server.stop()
	server.options.Password = "newsecret"
	server.start(t)
	storetest.Await(t, s.up, "NATS to take the password")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "newsecret") || strings.Count(log.String(), "level=WARN") == 0 {
		t.Errorf("the log is\n%s", log.String())
	}
}

func TestNATSOverTLS(t *testing.T) {
	t.Parallel()
	certificate, caFile := selfSigned(t)
	server := startNATS(t, natsserver.Options{
		TLS: true, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	})
	address := strings.Replace(server.url, "nats://", "tls://", 1)
	n := natsNetwork(bus.NATSConfig{URL: address, CAFile: caFile})
	from, to := n.join(t), n.join(t)
	l := to.listen(t, "")
	from.publish(t, "a", nil)
	l.expect(t, "a", nil)
	wary := natsNetwork(bus.NATSConfig{URL: address}).joinUnready(t)
	storetest.Await(t, wary.down, "an unknown certificate to be refused")
}

func TestNATSConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for name, config := range map[string]bus.NATSConfig{
		"cluster":     {URL: "nats://127.0.0.1:1", Cluster: "a b"},
		"credentials": {URL: "nats://127.0.0.1:1", CredentialsFile: missing},
		"CA":          {URL: "nats://127.0.0.1:1", CAFile: missing},
		"certificate": {URL: "nats://127.0.0.1:1", CertFile: missing, KeyFile: missing},
		"URL":         {URL: "nats://u:secret@host:port"},
	} {
		if _, err := bus.OpenNATS(config, bus.Options{Log: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("a wrong %s was taken", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells the password", err)
		}
	}
}

func selfSigned(t *testing.T) (certificate tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
