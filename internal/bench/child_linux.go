package bench

import "syscall"

// endsWithParent makes a process not outlive this one.
func endsWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
