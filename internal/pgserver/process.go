package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is a program that runs in the background, as its owner.
type process struct {
	program string
	args    []string
	dir     string
	owner   *syscall.SysProcAttr

	running *exec.Cmd // nil while it does not
	output  *bytes.Buffer
	exited  chan error
}

// start starts the program and returns when ready says nil.
func (p *process) start(ctx context.Context, ready func(context.Context) error) error {
	running := exec.CommandContext(context.WithoutCancel(ctx), p.program, p.args...)
	running.SysProcAttr, running.Dir = p.owner, p.dir
	p.output, p.exited = &bytes.Buffer{}, make(chan error, 1)
	running.Stderr = p.output
	if err := running.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.program, err)
	}
	p.running = running
	go func() { p.exited <- running.Wait() }() // who ends it waits for it
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case exit := <-p.exited:
			p.running = nil
			return fmt.Errorf("%s ended: %w: %s", p.program, exit, p.output.Bytes())
		case <-ctx.Done():
			return fmt.Errorf("%s did not start: %w", p.program, err)
		}
	}
}

// end sends a signal and returns when all of its processes are gone.
func (p *process) end(signal syscall.Signal) error {
	if err := p.running.Process.Signal(signal); err != nil {
		return fmt.Errorf("end %s: %w", p.program, err)
	}
	select {
	case <-p.exited: // with an error or without, and either is meant
		p.running = nil
		return nil
	case <-time.After(patience):
		return fmt.Errorf("end %s: it does not", p.program)
	}
}

// close ends it if it runs, in order at first.
func (p *process) close(signal syscall.Signal) error {
	if p.running == nil {
		return nil
	}
	var failures []error
	if err := p.running.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		failures = append(failures, err)
	}
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		failures = append(failures, p.running.Process.Kill())
		<-p.exited
	}
	p.running = nil
	return errors.Join(failures...)
}
