package main

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writeEvery is how long a record may wait to be written with others, and how long a failed write waits to be tried again.
	writeEvery = 100 * time.Millisecond
	// writeAtOnce is how many bytes may wait without the writing being woken.
	writeAtOnce = 64 << 10
	// maxUnwritten bounds the bytes that wait behind those being written: records that find no room are lost, and counted.
	maxUnwritten = 4 << 20
	// maxSpare bounds the memory that is kept for the next records.
	maxSpare = 256 << 10
	// farewell is how long the end of the program waits for what is not written yet.
	farewell = time.Second
)

// asyncWriter takes records and writes them from a goroutine of its own, many at a time. Whoever writes to it never waits, though
// the disk may be full, or the reader of a pipe have stopped, or be gone. What cannot be written is tried again and again; records
// that find no room meanwhile are lost, and a notice in their place says how many they were. It is safe for concurrent use.
type asyncWriter struct {
	out io.Writer
	// notice makes the record that stands in the place of lost ones. cause is why writing failed meanwhile, nil when it took too
	// long. No notice is given when it is nil. It may be set before the first record.
	notice func(lost int, cause error) []byte
	// eager says that every record is written without delay. It may be set before the first.
	eager bool

	mu      sync.Mutex
	waiting []byte // guarded by mu
	gap     int    // how many records were lost behind those that wait. Guarded by mu

	lost    atomic.Int64
	wake    chan struct{}
	closing chan struct{}
	ended   chan struct{}
}

func newAsyncWriter(out io.Writer) *asyncWriter {
	w := &asyncWriter{out: out, wake: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{})}
	go w.run() // Close waits for it
	return w
}

// Lost returns how many records were lost so far.
func (w *asyncWriter) Lost() int64 { return w.lost.Load() }

// errorLevel is how both log formats spell the level of an error.
var errorLevel = [][]byte{[]byte(`"level":"ERROR"`), []byte(`level=ERROR`)}

// Write takes a record. Errors are written without delay.
func (w *asyncWriter) Write(record []byte) (int, error) {
	w.mu.Lock()
	if w.gap > 0 || len(w.waiting)+len(record) > maxUnwritten {
		w.gap++
		w.lost.Add(1)
	} else {
		w.waiting = append(w.waiting, record...)
	}
	many := len(w.waiting) >= writeAtOnce
	w.mu.Unlock()
	head := record[:min(len(record), 80)]
	if many || w.eager || bytes.Contains(head, errorLevel[0]) || bytes.Contains(head, errorLevel[1]) {
		w.Flush()
	}
	return len(record), nil
}

// Flush has what waits written without delay. It does not wait for that.
func (w *asyncWriter) Flush() {
	select {
	case w.wake <- struct{}{}:
	default: // it has been woken already
	}
}

// Close writes what is left, if that is possible within a moment. The goroutine of a write that never returns is left behind: the
// program ends.
func (w *asyncWriter) Close() {
	close(w.closing)
	late := time.NewTimer(farewell)
	defer late.Stop()
	select {
	case <-w.ended:
	case <-late.C:
	}
}

// run writes what waits until the writer is closed.
func (w *asyncWriter) run() {
	defer close(w.ended)
	ticker := time.NewTicker(writeEvery)
	defer ticker.Stop()
	var p pieces
	for closing := false; !closing; {
		wake := w.wake
		if p.failure != nil { // it is tried again in its own time
			wake = nil
		}
		select {
		case <-wake:
		case <-ticker.C:
		case <-w.closing:
			closing = true
		}
		w.writeAll(&p)
	}
}

// pieces is what the goroutine of an asyncWriter has in its hands.
type pieces struct {
	buffer    []byte
	unwritten []byte // the rest of buffer
	gap       int    // how many records were lost behind it
	failure   error  // of the last write
	cause     error  // of a failure since the last notice
}

// writeAll writes until nothing is left or a write fails.
func (w *asyncWriter) writeAll(p *pieces) {
	for {
		if len(p.unwritten) == 0 && p.gap > 0 {
			if w.notice != nil {
				p.unwritten = w.notice(p.gap, p.cause)
			}
			p.gap, p.cause = 0, nil
		}
		if len(p.unwritten) == 0 && !w.take(p) {
			return
		}
		n, err := w.out.Write(p.unwritten)
		p.unwritten = p.unwritten[n:]
		if p.failure = err; err != nil {
			p.cause = err
			return
		}
	}
}

// take takes the records that wait and reports whether there was anything.
func (w *asyncWriter) take(p *pieces) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 && w.gap == 0 {
		return false
	}
	spare := p.buffer[:0]
	if cap(spare) > maxSpare {
		spare = nil
	}
	p.buffer, p.gap = w.waiting, w.gap
	p.unwritten = p.buffer
	w.waiting, w.gap = spare, 0
	return true
}
