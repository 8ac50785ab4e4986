package bus

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// natsNotice is the size of the largest notice: NATS takes up to 1 MiB unless it is told otherwise.
	natsNotice = 128 << 10
	// leastNATSNotice is what a NATS must take.
	leastNATSNotice = 1 << 10
	// natsSubscribing is how long NATS may take to take note of a subscription.
	natsSubscribing = 2 * time.Second
	// lostSubject is where servers say that they have lost something. No subject of a message is like it.
	lostSubject = "$lost"
	// lastWord is put behind every subject, so that "a.>" is heard for "a" too.
	lastWord = "._"

	natsConnection = "NATS"
)

// NATSConfig says where NATS is and who this is.
type NATSConfig struct {
	// URL names the servers, such as "nats://a:4222,tls://b:4222". It may hold a user and a password, or a token.
	URL string
	// Cluster is the first words of every subject, so that several clusters may share a NATS: "rollcall" when empty. It is
	// made like a subject.
	Cluster string
	// CredentialsFile, where given, holds a JWT and its seed. It is read again for every connection.
	CredentialsFile string
	// CAFile, where given, holds the certificates of who signs the servers' certificates. CertFile and KeyFile are for
	// servers that ask for a certificate.
	CAFile, CertFile, KeyFile string
}

// NATS is the bus of a server among those that use the same NATS.
type NATS struct {
	counters
	conn    *nats.Conn
	cluster string
	link    *link
	fanout  *fanout
	outbox  *outbox
	packer  packer
	closed  chan struct{} // closed when the connection is
	cancel  context.CancelFunc
	sender  chan struct{} // closed when nothing is sent any more
	// complaint is the last that was logged. It belongs to complain.
	complaint string

	mu      sync.Mutex     // held while subscriptions begin, and the connection is closed
	hearing sync.WaitGroup // until the connection's subscriptions have ended
}

// OpenNATS returns a bus that connects in the background when NATS does not answer at once, and again whenever the
// connection breaks. The error says what is wrong with the configuration.
func OpenNATS(config NATSConfig, options Options) (*NATS, error) {
	b := &NATS{cluster: config.Cluster, closed: make(chan struct{}), sender: make(chan struct{})}
	if b.cluster == "" {
		b.cluster = "rollcall"
	}
	if err := checkSubject(b.cluster); err != nil {
		return nil, fmt.Errorf("the name of the cluster on NATS: %w", err)
	}
	b.link = newLink(options, &b.counters, natsConnection)
	b.fanout = newFanout(&b.counters)
	b.outbox = newOutbox(&b.counters)
	b.packer = packer{sender: newSenderID(), counters: &b.counters, limit: natsNotice}
	connecting, err := b.connectOptions(config)
	if err != nil {
		return nil, err
	}
	if b.conn, err = nats.Connect(config.URL, connecting...); err != nil {
		if bad, ok := errors.AsType[*url.Error](err); ok {
			err = bad.Err // without the URL, which may hold a password
		}
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if !b.conn.IsConnected() {
		b.link.notYet(errors.Join(errors.New("NATS does not answer"), b.conn.LastError()))
	}
	if _, err := b.hear(lostSubject, func(string, []byte) {}, b.fanout.missed); err != nil {
		b.conn.Close()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go func() {
		defer close(b.sender)
		b.send(ctx)
	}()
	return b, nil
}

func (b *NATS) connectOptions(config NATSConfig) ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name("rollcall"),
		nats.NoEcho(),
		nats.Timeout(answersWithin),
		nats.PingInterval(lookAfter),
		nats.FlusherTimeout(answersWithin),
		// What cannot be sent waits in the outbox, and not in the connection.
		nats.ReconnectBufSize(-1),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(retryAfter),
		nats.ConnectHandler(b.connected),
		nats.ReconnectHandler(func(conn *nats.Conn) {
			b.outbox.failed(0) // what was written when the connection broke
			b.connected(conn)
		}),
		nats.DisconnectErrHandler(func(conn *nats.Conn, err error) {
			if conn.IsClosed() { // by Close
				return
			}
			if err == nil {
				err = errors.New("NATS has closed the connection")
			}
			b.link.fails(natsConnection, err)
		}),
		nats.ErrorHandler(b.complain),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
	}
	if file := config.CredentialsFile; file != "" {
		if _, err := os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("credentials for NATS: %w", err)
		}
		options = append(options, nats.UserCredentials(file))
	}
	if config.CAFile != "" {
		options = append(options, nats.RootCAs(config.CAFile))
	}
	if config.CertFile != "" || config.KeyFile != "" {
		options = append(options, nats.ClientCert(config.CertFile, config.KeyFile))
	}
	return options, nil
}

// complain takes what NATS says beside its answers. NATS calls it one time after another.
func (b *NATS) complain(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		b.fanout.missed()
	}
	if text := err.Error(); text != b.complaint { // what is not permitted is refused each time
		b.complaint = text
		b.link.options.Log.Warn("NATS reports an error", "error", err)
	}
}

// connected is called when there is a connection on which the subscriptions have been sent.
func (b *NATS) connected(conn *nats.Conn) {
	signal(b.outbox.wake)
	if conn.FlushTimeout(answersWithin) != nil { // the connection breaks, and is made again
		return
	}
	b.fanout.missed()
	b.link.works(natsConnection)
}

// Publish implements Bus.
func (b *NATS) Publish(subject string, message []byte) error { return b.outbox.put(subject, message) }

// Subscribe implements Bus.
func (b *NATS) Subscribe(prefix string, to Subscriber) (unsubscribe func(), err error) {
	s, err := b.fanout.subscribe(prefix, to)
	if err != nil {
		return nil, err
	}
	words := ">"
	if prefix != "" {
		words = prefix + ".>"
	}
	heard, err := b.hear(words, s.deliver, s.missed)
	if err != nil {
		b.fanout.unsubscribe(s)
		return nil, err
	}
	if b.conn.IsConnected() {
		// When that fails, the connection does, and the subscriber is told when there is one again.
		_ = b.conn.FlushTimeout(natsSubscribing)
	}
	return sync.OnceFunc(func() {
		_ = heard.Unsubscribe() // it fails when the connection is closed, which comes to the same
		b.fanout.unsubscribe(s)
	}), nil
}

// hear subscribes to subjects of the cluster.
func (b *NATS) hear(
	words string, message func(subject string, message []byte), missed func(),
) (*nats.Subscription, error) {
	reader := assembler{self: b.packer.sender, counters: &b.counters, hear: message, missed: missed}
	reader.reset()
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.conn.Subscribe(b.cluster+"."+words, func(m *nats.Msg) {
		if err := reader.read(m.Data); err != nil {
			b.link.options.Log.Debug("a message could not be read", "error", err)
		}
	})
	if err != nil {
		if errors.Is(err, nats.ErrConnectionClosed) {
			err = ErrClosed
		}
		return nil, err
	}
	b.hearing.Add(1)
	s.SetClosedHandler(func(string) { b.hearing.Done() })
	return s, nil
}

// Close implements Bus.
func (b *NATS) Close() error {
	b.outbox.close()
	if b.conn.IsConnected() {
		late := time.NewTimer(lastWords)
		defer late.Stop()
		select {
		case <-b.sender:
			_ = b.conn.FlushTimeout(lastWords) // what cannot be said now is not said
		case <-late.C:
		}
	}
	b.cancel()
	b.closeConnection()
	<-b.sender
	<-b.closed
	b.hearing.Wait()
	b.outbox.abandon()
	b.fanout.close()
	return nil
}

func (b *NATS) closeConnection() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn.Close()
}

// send sends until the bus is closed.
func (b *NATS) send(ctx context.Context) {
	for {
		_, waiting, closed := b.outbox.size()
		if waiting && b.conn.IsConnected() {
			if !b.sendBatch() && !pause(ctx, firstRetry) {
				return
			}
			continue
		}
		if closed {
			return
		}
		select {
		case <-b.outbox.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (b *NATS) sendBatch() (worked bool) {
	b.packer.limit = max(leastNATSNotice, min(natsNotice, int(b.conn.MaxPayload())))
	batch, lost := b.outbox.take(natsNotice)
	if lost {
		b.packer.lost()
		if b.publish(lostSubject) != nil {
			b.outbox.failed(len(batch))
			return false
		}
	}
	for n, m := range batch {
		b.packer.add(m)
		if b.publish(m.subject+lastWord) != nil {
			b.outbox.failed(len(batch) - n)
			return false
		}
		b.sent.Add(1)
	}
	return true
}

func (b *NATS) publish(words string) error {
	for _, notice := range b.packer.take() {
		if err := b.conn.Publish(b.cluster+"."+words, notice); err != nil {
			return err
		}
	}
	return nil
}
