//go:build !unix

package sqlstore

// unmanagedMemory returns memory of the garbage collector where there is no better.
func unmanagedMemory(size int) (memory []byte, unmap func([]byte)) {
	return make([]byte, size), func([]byte) {}
}
