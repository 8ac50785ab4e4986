//go:build !linux

package pgserver

import "syscall"

// endsWithParent would make a process not outlive this one; here the kernel does not do that.
func endsWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
