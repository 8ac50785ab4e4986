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
	// count ends the load when it is not zero.
	count int64
	// next numbers the requests. Nil means from 0 on.
	next *atomic.Int64
	// request appends the n-th request to buffer.
	request func(buffer []byte, n int64) []byte
}

// result is what a load measured.
type result struct {
	ops       int64
	elapsed   time.Duration
	latencies []time.Duration // of every operation
	cpu       time.Duration   // of the server
}

// add adds another measurement of the same load.
func (r *result) add(other result) {
	r.ops += other.ops
	r.elapsed += other.elapsed
	r.latencies = append(r.latencies, other.latencies...)
	r.cpu += other.cpu
}

// percentile returns the latency that so many in a hundred operations did not exceed.
func (r result) percentile(percent int) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	slices.Sort(r.latencies)
	return r.latencies[len(r.latencies)*percent/100]
}

// measurement measures something for a while.
type measurement func(ctx context.Context, duration time.Duration) (result, error)

// rounds is how often a floor and what is compared with it take turns. A machine that is shared is faster at one
// moment than at another: taking turns, both see the same of it.
const rounds = 5

// compare measures the floor and the operation in turns.
func compare(
	ctx context.Context, duration time.Duration, floor, operation measurement,
) (floors, operations result, err error) {
	for range rounds {
		for _, turn := range []struct {
			measure measurement
			total   *result
		}{{floor, &floors}, {operation, &operations}} {
			measured, err := turn.measure(ctx, duration/rounds)
			if err != nil {
				return floors, operations, err
			}
			turn.total.add(measured)
		}
	}
	return floors, operations, nil
}

func (r result) rate() float64 { return float64(r.ops) / r.elapsed.Seconds() }

// perOp returns the server's CPU time for one operation.
func (r result) perOp() time.Duration {
	return time.Duration(float64(r.cpu) / float64(max(1, r.ops)))
}

// against returns the measurement of the load on a process. Requests are numbered through all turns.
func (l load) against(p *process) measurement {
	l.address = p.address
	if l.next == nil {
		l.next = new(atomic.Int64)
	}
	return func(ctx context.Context, duration time.Duration) (result, error) {
		ctx, cancel := context.WithTimeout(ctx, duration)
		defer cancel()
		return l.run(ctx, p.cmd.Process.Pid)
	}
}

// run drives the load against the process with the given pid, until ctx ends or count is reached, and returns what it
// cost.
func (l load) run(ctx context.Context, pid int) (result, error) {
	before, err := cpu(pid)
	if err != nil {
		return result{}, err
	}
	if l.next == nil {
		l.next = new(atomic.Int64)
	}
	latencies := make([][]time.Duration, l.concurrency)
	failures := make([]error, l.concurrency)
	started := time.Now()
	var workers sync.WaitGroup
	for i := range l.concurrency {
		workers.Go(func() { latencies[i], failures[i] = l.work(ctx) })
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
	return result{ops: int64(len(all)), elapsed: elapsed, latencies: all, cpu: after - before}, nil
}

func (l load) work(ctx context.Context) ([]time.Duration, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // every answer has been read
	reader := bufio.NewReaderSize(conn, 16<<10)
	var latencies []time.Duration
	var buffer []byte
	for ctx.Err() == nil {
		n := l.next.Add(1) - 1
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
