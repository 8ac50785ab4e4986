// Command clockserver runs a whole server for the browser tests, with a clock that is moved from outside: each line of
// standard input is a number of seconds, and is answered by a line that says moved. It runs until standard input ends.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("give the data directory")
	}
	var ahead atomic.Int64
	running, err := server.Start(ctx, server.Config{
		DataDir: args[0], HTTP: "127.0.0.1:0", HTTPS: "127.0.0.1:0",
		Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
		Now:    func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
	if err != nil {
		return err
	}
	fmt.Printf("serving http://%s and https://%s\n", running.HTTPAddr, running.HTTPSAddr)
	err = moveClock(ctx, &ahead)
	return errors.Join(err, running.Close()) //nolint:contextcheck // it is stopped also when ctx has ended
}

// moveClock does what standard input says, until it ends or ctx does.
func moveClock(ctx context.Context, ahead *atomic.Int64) error {
	lines := make(chan string)
	go func() { // it ends with the process: nothing else ends a read of standard input
		defer close(lines)
		for input := bufio.NewScanner(os.Stdin); input.Scan(); {
			lines <- input.Text()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, open := <-lines:
			if !open {
				return nil
			}
			seconds, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				return fmt.Errorf("read the seconds to move the clock by: %w", err)
			}
			ahead.Add(int64(time.Duration(seconds) * time.Second))
			fmt.Println("moved")
		}
	}
}
