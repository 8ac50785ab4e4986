package main

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/storetest"
)

// TestCLIPresence runs the program for two people. The first prints how the second comes and goes.
func TestCLIPresence(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s, err := server.Start(t.Context(), server.Config{DataDir: data, HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	start := func(uid string) (*bufio.Scanner, func()) {
		ctx, stop := context.WithTimeout(t.Context(), storetest.Patience) // what it prints ends with it
		printed, out := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			err := run(ctx, out, "http://"+s.HTTPAddr, filepath.Join(data, "credentials.json"), uid, "away")
			out.Close()
			ended <- err
		}()
		return bufio.NewScanner(printed), func() {
			stop()
			go func() { _, _ = io.Copy(io.Discard, printed) }()
			if err := storetest.Await(t, ended, "the program to end"); err != nil {
				t.Error(err)
			}
		}
	}
	prints := func(lines *bufio.Scanner, wanted string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), wanted) {
				return
			}
		}
		t.Fatalf("%q is not printed", wanted)
	}
	ada, stopAda := start("ada")
	prints(ada, "-- connected")
	bob, stopBob := start("bob")
	prints(bob, "-- connected")
	prints(ada, "bob                  away")
	stopBob()
	prints(ada, "bob                  offline")
	stopAda()
}
