// Package bus carries what the servers of a cluster tell each other: at most once, and each sender's messages in the
// order in which they were published. It makes things sooner, and nothing that must not be lost may depend on it. There
// are three forms with the same promises: within a process (Local), through PostgreSQL and through NATS.
package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// MaxMessage is the size of the largest message, in bytes.
const MaxMessage = 1 << 20

const (
	// maxSubject is the length of the longest subject.
	maxSubject = 200
	// maxQueued bounds what waits to be sent, and what waits for one subscriber: in bytes, and in messages.
	maxQueued         = 16 << 20
	maxQueuedMessages = 10_000
)

var (
	// ErrClosed means that the bus has been closed.
	ErrClosed = errors.New("the bus is closed")
	// ErrTooLarge means that a message has more than MaxMessage bytes.
	ErrTooLarge = fmt.Errorf("a message on the bus has at most %d bytes", MaxMessage)
	// ErrSubject means that a subject is not made of words as Bus describes.
	ErrSubject = fmt.Errorf("a subject is words of A-Z, a-z, 0-9, - and _ with dots between, at most %d bytes", maxSubject)
)

// Bus is what one server of a cluster speaks and hears through. It is safe for concurrent use.
//
// A subject is words of ASCII letters, digits, "-" and "_" with dots between them, such as "presence.app1".
type Bus interface {
	// Publish tells a message to every other server that has subscribed to its subject; a server does not hear itself.
	// It does not wait: the message is copied and queued. What cannot be sent stays in a bounded queue, from which the
	// oldest messages are dropped. The errors are ErrClosed, ErrSubject and ErrTooLarge.
	Publish(subject string, message []byte) error
	// Subscribe begins to hear the messages whose subject is the prefix, or begins with the prefix and a dot; the empty
	// prefix is for all. What others publish after it has returned is heard while the bus is up. unsubscribe returns when
	// the subscriber is not called any more: do not call it from within the subscriber. The errors are ErrClosed and
	// ErrSubject.
	Subscribe(prefix string, to Subscriber) (unsubscribe func(), err error)
	// Stats returns what was counted until now.
	Stats() Stats
	// Close sends what was published, if that is possible at once, ends every subscription and returns when nothing of
	// the bus is running any more. Do not call it from within a subscriber or a callback.
	Close() error
}

// Subscriber is who hears. Its functions are called by one goroutine, one after another. A slow subscriber holds up
// nobody: when too much waits for it, all of that is dropped and it is told that it missed.
type Subscriber struct {
	// Message is given each message. Other subscribers are given the same bytes: do not change them.
	Message func(subject string, message []byte)
	// Missed says that messages may have been lost, as far as the bus can know: this subscriber was too slow, the bus was
	// away from this server, or another server dropped what it could not send. It comes several times when several servers
	// lose their connections at once. Who polls does so now. It may be nil.
	Missed func()
}

// Options is what the forms that need a network have in common.
type Options struct {
	// Log is told once that the bus is down, and once that it is up.
	Log *slog.Logger
	// Down and Up, where given, are called in turns: when the bus becomes unusable, and when it is usable for the first
	// time and again. They must return soon. The bus connects and reconnects by itself.
	Down func(why error)
	Up   func()
}

// Stats counts what happened since the bus was opened.
type Stats struct {
	// Sent counts messages that were sent, and Dropped those that were published and may never have been.
	Sent, Dropped uint64
	// Received counts messages that came for a subscriber, and Overflowed those that it was too slow for. A message for
	// two subscribers counts twice.
	Received, Overflowed uint64
	// Pieces counts pieces of large messages, sent and received. Broken counts large messages of which a piece was
	// missing, and whatever else could not be read.
	Pieces, Broken uint64
	// Reconnects counts how often the bus was up again.
	Reconnects uint64
}

// counters are the Stats that are being counted.
type counters struct {
	sent, dropped, received, overflowed, pieces, broken, reconnects atomic.Uint64
}

// Stats returns what was counted until now.
func (c *counters) Stats() Stats {
	return Stats{
		Sent: c.sent.Load(), Dropped: c.dropped.Load(),
		Received: c.received.Load(), Overflowed: c.overflowed.Load(),
		Pieces: c.pieces.Load(), Broken: c.broken.Load(),
		Reconnects: c.reconnects.Load(),
	}
}

func checkMessage(subject string, message []byte) error {
	if len(message) > MaxMessage {
		return ErrTooLarge
	}
	return checkSubject(subject)
}

func checkSubject(subject string) error {
	if len(subject) > maxSubject {
		return ErrSubject
	}
	for word := range strings.SplitSeq(subject, ".") {
		if word == "" || strings.ContainsFunc(word, notOfWords) {
			return ErrSubject
		}
	}
	return nil
}

func notOfWords(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return checkSubject(prefix)
}

// covers says whether a subscription to a prefix hears a subject.
func covers(prefix, subject string) bool {
	rest, ok := strings.CutPrefix(subject, prefix)
	return ok && (prefix == "" || rest == "" || rest[0] == '.')
}
