package main

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writeEvery is how long a record may wait to be written with others, and how long a failed write waits to be tried
	// again.
	writeEvery = 100 * time.Millisecond
	// pieceSize is how many bytes are written at a time, and how many may wait without the writing being woken.
	pieceSize = 64 << 10
	// maxPieces bounds what waits behind the piece that is being written: records that find no room are lost, and counted.
	maxPieces = 64
	// maxSpare bounds how many pieces of memory are kept for the next records.
	maxSpare = 4
	// farewell is how long the end of the program waits for what is not written yet.
	farewell = time.Second
)

// asyncWriter takes records and writes them from a goroutine of its own, many at a time. Whoever writes to it never
// waits, though the disk may be full, or the reader of a pipe have stopped, or be gone. What cannot be written is tried
// again and again; records that find no room meanwhile are lost, and a notice in their place says how many they were.
// It is safe for concurrent use.
type asyncWriter struct {
	out io.Writer
	// notice makes the record that stands in the place of lost ones. cause is why writing failed meanwhile, nil when it
	// took too long. No notice is given when it is nil. It may be set before the first record.
	notice func(lost int, cause error) []byte
	// eager says that every record is written without delay. It may be set before the first.
	eager bool

	mu sync.Mutex
	// full are pieces that wait to be written, and filling is the one behind them. Guarded by mu
	full    [][]byte
	filling []byte
	spare   [][]byte // guarded by mu
	gap     int      // how many records were lost behind those that wait. Guarded by mu

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
	many := false
	if len(w.filling)+len(record) > pieceSize && len(w.filling) > 0 && len(w.full) < maxPieces {
		w.full = append(w.full, w.filling)
		w.filling = w.takeSpare()
		many = true
	}
	if w.gap > 0 || len(w.filling)+len(record) > pieceSize && len(w.filling) > 0 {
		w.gap++
		w.lost.Add(1)
	} else {
		w.filling = append(w.filling, record...)
	}
	w.mu.Unlock()
	head := record[:min(len(record), 80)]
	if many || w.eager || bytes.Contains(head, errorLevel[0]) || bytes.Contains(head, errorLevel[1]) {
		w.Flush()
	}
	return len(record), nil
}

// takeSpare returns an empty piece of memory. It needs mu.
func (w *asyncWriter) takeSpare() []byte {
	last := len(w.spare) - 1
	if last < 0 {
		return make([]byte, 0, pieceSize)
	}
	piece := w.spare[last]
	w.spare = w.spare[:last]
	return piece
}

// Flush has what waits written without delay. It does not wait for that.
func (w *asyncWriter) Flush() {
	select {
	case w.wake <- struct{}{}:
	default: // it has been woken already
	}
}

// Close writes what is left, if that is possible within a moment. The goroutine of a write that never returns is left
// behind: the program ends.
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
	piece     []byte
	unwritten []byte // the rest of it
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

// take takes the piece that has waited longest and reports whether there was anything.
func (w *asyncWriter) take(p *pieces) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cap(p.piece) == pieceSize && len(w.spare) < maxSpare {
		w.spare = append(w.spare, p.piece[:0])
	}
	p.piece = nil
	switch {
	case len(w.full) > 0:
		p.piece, w.full = w.full[0], w.full[1:]
	case len(w.filling) > 0 || w.gap > 0:
		p.piece, w.filling = w.filling, w.takeSpare()
		p.gap, w.gap = w.gap, 0
	default:
		return false
	}
	p.unwritten = p.piece
	return true
}
