package server

import "syscall"

// clockIsLoose reports whether the kernel knows that nothing keeps the clock right.
func clockIsLoose() bool {
	const unsynchronized = 5 // TIME_ERROR of adjtimex(2)
	var timex syscall.Timex
	state, err := syscall.Adjtimex(&timex)
	return err == nil && state == unsynchronized
}
