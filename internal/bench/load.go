package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// load drives requests over keep-alive connections, each sending its next request when it has the answer to the last
// (closed loop). It speaks just enough HTTP/1.1, so that most of the machine is left to the server.
type load struct {
	address     string
	concurrency int
	// duration ends the load; count does when it is not zero.
	duration time.Duration
	count    int64
	// request appends the n-th request to buffer.
	request func(buffer []byte, n int64) []byte
}

// result is what a load measured.
type result struct {
	ops      int64
	elapsed  time.Duration
	p50, p99 time.Duration
	cpu      time.Duration
}

func (r result) rate() float64 { return float64(r.ops) / r.elapsed.Seconds() }

// perOp returns the server's CPU time for one operation.
func (r result) perOp() time.Duration {
	return time.Duration(float64(r.cpu) / float64(max(1, r.ops)))
}

// run drives the load against the process with the given pid and returns what it cost.
func (l load) run(ctx context.Context, pid int) (result, error) {
	if l.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.duration)
		defer cancel()
	}
	before, err := cpu(pid)
	if err != nil {
		return result{}, err
	}
	var next atomic.Int64
	latencies := make([][]time.Duration, l.concurrency)
	failures := make([]error, l.concurrency)
	started := time.Now()
	var workers sync.WaitGroup
	for i := range l.concurrency {
		workers.Go(func() { latencies[i], failures[i] = l.work(ctx, &next) })
	}
	workers.Wait()
	elapsed := time.Since(started)
	if err := errors.Join(failures...); err != nil {
		return result{}, err
	}
	after, err := cpu(pid)
	if err != nil {
		return result{}, err
	}
	all := slices.Concat(latencies...)
	if len(all) == 0 {
		return result{}, errors.New("nothing was measured")
	}
	slices.Sort(all)
	return result{ops: int64(len(all)), elapsed: elapsed, p50: all[len(all)/2], p99: all[len(all)*99/100], cpu: after - before}, nil
}

func (l load) work(ctx context.Context, next *atomic.Int64) ([]time.Duration, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // every answer has been read
	reader := bufio.NewReaderSize(conn, 16<<10)
	var latencies []time.Duration
	var buffer []byte
	for ctx.Err() == nil {
		n := next.Add(1) - 1
		if l.count > 0 && n >= l.count {
			break
		}
		buffer = l.request(buffer[:0], n)
		started := time.Now()
		if _, err := conn.Write(buffer); err != nil {
			return nil, err
		}
		if err := readAnswer(reader); err != nil {
			return nil, fmt.Errorf("request %d: %w", n, err)
		}
		latencies = append(latencies, time.Since(started))
	}
	return latencies, nil
}

var contentLength = []byte("Content-Length: ")

// readAnswer reads one response and fails unless its status is 200.
func readAnswer(reader *bufio.Reader) error {
	status, err := reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	refused := !bytes.HasPrefix(status, []byte("HTTP/1.1 200"))
	line := string(bytes.TrimSpace(status[:min(len(status), 40)]))
	length := 0
	for {
		header, err := reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(header) <= 2 {
			break
		}
		if bytes.HasPrefix(header, contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(header[len(contentLength):]))); err != nil {
				return err
			}
		}
	}
	if refused {
		body := make([]byte, length)
		if _, err := io.ReadFull(reader, body); err != nil {
			return err
		}
		return fmt.Errorf("the server answered %s: %s", line, body)
	}
	_, err = reader.Discard(length)
	return err
}
