//go:build unix

package sqlstore

import "syscall"

// unmanagedMemory returns memory, in bytes, that the garbage collector does not know of, zeroed, and what gives it
// back. It returns nil when there is none.
func unmanagedMemory(size int) (memory []byte, unmap func([]byte)) {
	memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil
	}
	return memory, func(memory []byte) { _ = syscall.Munmap(memory) } // fails only for what is not mapped
}
