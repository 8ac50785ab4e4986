package main

import (
	"bufio"
	"bytes"
	"io"
	"sync"
	"time"
)

// logFlush is how long a log record may wait to be written with others.
const logFlush = 100 * time.Millisecond

// logBuffer gathers log records, so that a busy server does not pay a system call for each. Errors are written at
// once. It is safe for concurrent use.
type logBuffer struct {
	mu      sync.Mutex
	out     *bufio.Writer // guarded by mu
	stop    chan struct{}
	stopped sync.WaitGroup
}

func newLogBuffer(out io.Writer) *logBuffer {
	b := &logBuffer{out: bufio.NewWriterSize(out, 64<<10), stop: make(chan struct{})}
	b.stopped.Go(b.flushRegularly)
	return b
}

func (b *logBuffer) flushRegularly() {
	ticker := time.NewTicker(logFlush)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.flush()
		case <-b.stop:
			return
		}
	}
}

func (b *logBuffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.out.Flush() // there is nowhere to report that the log cannot be written
}

// errorLevel is how both log formats spell the level of an error.
var errorLevel = [][]byte{[]byte(`"level":"ERROR"`), []byte(`level=ERROR`)}

func (b *logBuffer) Write(record []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.out.Write(record)
	head := record[:min(len(record), 80)]
	if bytes.Contains(head, errorLevel[0]) || bytes.Contains(head, errorLevel[1]) {
		err = b.out.Flush()
	}
	return n, err
}

// Close writes what is left.
func (b *logBuffer) Close() {
	close(b.stop)
	b.stopped.Wait()
	b.flush()
}
