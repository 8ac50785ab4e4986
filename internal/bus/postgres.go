package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	channel = "rollcall_bus"
	// maxPayload is the longest text that PostgreSQL takes with a notification.
	maxPayload = 7999
	// gather is how long messages wait for others to be sent with. When nothing was sent for as long, there is no wait.
	gather = 10 * time.Millisecond
	// enough is how many bytes of messages are not worth waiting for more: the notification is nearly full.
	enough = maxPayload * 3 / 4
	// sendAtOnce is how many bytes of messages are sent together, when more of them wait than go into one notification.
	sendAtOnce = 256 << 10
	// lookAfter is how often an idle connection is asked whether it is still there, and answersWithin how long any
	// answer may take: a network that swallows everything breaks no connection.
	lookAfter     = 5 * time.Second
	answersWithin = 5 * time.Second
	// lastWords is how long closing may take to send what was published, and goodbye to hang up.
	lastWords = 5 * time.Second
	goodbye   = time.Second
)

// the two connections of a Postgres.
const (
	listening = "listening"
	sending   = "sending"
)

// Postgres is the bus of a server among those that use the same PostgreSQL database, by LISTEN and NOTIFY. It has two
// connections of its own. They must reach PostgreSQL itself, or a pooler that leaves each client its own session.
type Postgres struct {
	counters
	config *pgx.ConnConfig
	link   *link
	fanout *fanout
	outbox *outbox
	packer packer

	// suspect is signalled when the sending connection may be broken as well.
	suspect chan struct{}
	cancel  context.CancelFunc
	running sync.WaitGroup
	sender  chan struct{} // closed when nothing is sent any more
}

// OpenPostgres returns a bus that connects in the background, and again whenever a connection breaks.
func OpenPostgres(config *pgx.ConnConfig, options Options) *Postgres {
	own := config.Copy()
	own.RuntimeParams["application_name"] = "rollcall bus"
	own.RuntimeParams["synchronous_commit"] = "off" // a notification does not outlive a crash anyway
	own.OnNotification = nil
	p := &Postgres{config: own, suspect: make(chan struct{}, 1), sender: make(chan struct{})}
	p.link = newLink(options, &p.counters, listening, sending)
	p.fanout = newFanout(&p.counters)
	p.outbox = newOutbox(&p.counters)
	p.packer = packer{sender: newSenderID(), counters: &p.counters, limit: maxPayload, asText: true}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.running.Go(func() { p.listen(ctx) })
	p.running.Go(func() {
		defer close(p.sender)
		p.send(ctx)
	})
	return p
}

// Publish implements Bus.
func (p *Postgres) Publish(subject string, message []byte) error {
	return p.outbox.put(subject, message)
}

// Subscribe implements Bus.
func (p *Postgres) Subscribe(prefix string, to Subscriber) (unsubscribe func(), err error) {
	s, err := p.fanout.subscribe(prefix, to)
	if err != nil {
		return nil, err
	}
	return func() { p.fanout.unsubscribe(s) }, nil
}

// Close implements Bus.
func (p *Postgres) Close() error {
	p.outbox.close()
	if p.link.isUp() {
		late := time.NewTimer(lastWords)
		defer late.Stop()
		select {
		case <-p.sender:
		case <-late.C:
		}
	}
	p.cancel()
	p.running.Wait()
	p.outbox.abandon()
	p.fanout.close()
	return nil
}

func (p *Postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	return pgx.ConnectConfig(ctx, p.config)
}

// hangUp closes a connection. It waits for no answer when there is none to expect.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	_ = conn.Close(ctx) // it is not needed any more, in whatever state it is
}

// listen hears until the bus is closed.
func (p *Postgres) listen(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		heard, err := p.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		p.link.fails(listening, err)
		signal(p.suspect)
		if heard {
			failures = 0
		}
		if !pause(ctx, retryAfter(failures)) {
			return
		}
	}
}

// listenOnce hears until the connection breaks. heard says that it worked.
func (p *Postgres) listenOnce(ctx context.Context) (heard bool, err error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	defer hangUp(ctx, conn)
	if err := execute(ctx, conn, `LISTEN `+channel); err != nil {
		return false, fmt.Errorf("listen: %w", err)
	}
	reader := assembler{
		self: p.packer.sender, counters: &p.counters, hear: p.fanout.deliver, missed: p.fanout.missed,
	}
	reader.reset()
	p.fanout.missed() // what was sent before
	p.link.works(listening)
	for {
		notification, err := waitForNotification(ctx, conn)
		switch {
		case err != nil:
			return true, fmt.Errorf("listen: %w", err)
		case notification == nil:
			if err := ping(ctx, conn); err != nil {
				return true, fmt.Errorf("listen: %w", err)
			}
		case notification.Payload == "": // somebody has tried whether that works
		default:
			p.read(&reader, notification.Payload)
		}
	}
}

func (p *Postgres) read(reader *assembler, text string) {
	notice, err := fromText(text)
	if err != nil {
		p.broken.Add(1)
	} else {
		err = reader.read(notice)
	}
	if err != nil {
		p.link.options.Log.Debug("a notification could not be read", "error", err)
	}
}

// waitForNotification returns nil when none has come for a while.
func waitForNotification(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	waiting, cancel := context.WithTimeout(ctx, lookAfter)
	defer cancel()
	notification, err := conn.WaitForNotification(waiting)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !conn.IsClosed() {
		return nil, nil //nolint:nilnil // nothing has come, and nothing is wrong
	}
	return notification, err
}

// send sends until the bus is closed.
func (p *Postgres) send(ctx context.Context) {
	failures := 0
	for {
		worked, err := p.sendOnce(ctx)
		if err == nil {
			return
		}
		p.link.fails(sending, err)
		if _, _, closed := p.outbox.size(); closed || ctx.Err() != nil {
			return
		}
		if failures++; worked {
			failures = 0
		}
		if !pause(ctx, retryAfter(failures)) {
			return
		}
	}
}

// sendOnce sends until the connection breaks, or the bus is closed. worked says that something could be sent.
func (p *Postgres) sendOnce(ctx context.Context) (worked bool, err error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	defer hangUp(ctx, conn)
	// An empty notification tells whether notifications can be sent here: not so on a standby.
	if err := notify(ctx, conn, []string{""}); err != nil {
		return false, err
	}
	p.link.works(sending)
	for sent := time.Now(); ; {
		more, err := p.waitForWork(ctx, conn, sent)
		if err != nil || !more {
			return worked, err
		}
		batch, lost := p.outbox.take(sendAtOnce)
		sent = time.Now()
		if err := notify(ctx, conn, p.pack(batch, lost)); err != nil {
			p.outbox.failed(len(batch)) // they may have been sent, and are not sent twice
			return worked, err
		}
		p.sent.Add(uint64(len(batch)))
		worked = true
	}
}

func (p *Postgres) pack(batch []outgoing, lost bool) []string {
	if lost {
		p.packer.lost()
	}
	for _, m := range batch {
		p.packer.add(m)
	}
	notices := p.packer.take()
	texts := make([]string, len(notices))
	for n, notice := range notices {
		texts[n] = toText(notice)
	}
	return texts
}

// waitForWork returns when there is something to send and others have had their time to join it. more is false when the
// bus was closed and everything has been sent.
func (p *Postgres) waitForWork(ctx context.Context, conn *pgx.Conn, sent time.Time) (more bool, err error) {
	look := time.NewTimer(lookAfter)
	defer look.Stop()
	var gathered <-chan time.Time
	for {
		size, waiting, closed := p.outbox.size()
		switch wait := time.Until(sent.Add(gather)); {
		case closed && !waiting:
			return false, nil
		case waiting && (closed || wait <= 0 || size >= enough):
			return true, p.checkSuspect(ctx, conn)
		case waiting && gathered == nil:
			gathered = time.After(wait)
		}
		select {
		case <-p.outbox.wake:
		case <-gathered:
		case <-p.suspect:
			if err := ping(ctx, conn); err != nil {
				return false, err
			}
		case <-look.C:
			if err := ping(ctx, conn); err != nil {
				return false, err
			}
			look.Reset(lookAfter)
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// checkSuspect asks the connection when it may be broken: what is sent on a broken one is lost.
func (p *Postgres) checkSuspect(ctx context.Context, conn *pgx.Conn) error {
	select {
	case <-p.suspect:
		return ping(ctx, conn)
	default:
		return nil
	}
}

// notify sends notices in one transaction of its own.
func notify(ctx context.Context, conn *pgx.Conn, notices []string) error {
	err := execute(ctx, conn, `SELECT pg_notify($1, notice) FROM unnest($2::text[]) AS notice`, channel, notices)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

func execute(ctx context.Context, conn *pgx.Conn, sql string, arguments ...any) error {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	_, err := conn.Exec(ctx, sql, arguments...)
	return err
}

func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	return conn.Ping(ctx)
}
