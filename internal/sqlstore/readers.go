package sqlstore

import "math"

// Readers returns how many views can read at a time; on PostgreSQL, writes are among them.
func (s *Store) Readers() int {
	switch engine := s.engine.(type) {
	case *sqlite:
		return cap(engine.readers.free)
	case *postgres:
		return int(engine.pool.Config().MaxConns)
	default:
		return math.MaxInt
	}
}
