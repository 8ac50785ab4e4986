package sqlstore

import (
	"encoding/binary"
	"sync"
)

// rowRing holds the rows that were put in last, in a bounded amount of memory that the garbage collector need not look
// into. Reading and putting cost a fraction of what the libraries take for it, which keep account of every use: here a
// row that nobody has read for long and one that is read all the time are dropped alike, and the next read puts it back.
type rowRing struct {
	shards [16]ringShard
}

type ringShard struct {
	mu sync.Mutex
	// places tells by its hash where a row begins: the number of the byte, counted through all chunks.
	places map[uint64]uint32
	// chunks are made as they are needed, up to chunksPerShard, and then used again in turn.
	chunks [][]byte
	// writing is the chunk that rows are put into.
	writing int
}

const (
	ringChunk      = 64 << 10
	chunksPerShard = 32
	// ringRowMost is how long a row may be.
	ringRowMost = ringChunk / 8
	// ringHeader is the hash of the row, a number that its owner gives it, and its length.
	ringHeader = 8 + 8 + 4
)

func (r *rowRing) shard(hash uint64) *ringShard { return &r.shards[hash>>60] }

// get returns a copy of the row with a hash, and its number.
func (r *rowRing) get(hash uint64) (row string, number uint64, found bool) {
	s := r.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	place, found := s.places[hash]
	if !found {
		return "", 0, false
	}
	entry := s.chunks[place/ringChunk][place%ringChunk:]
	length := binary.LittleEndian.Uint32(entry[16:])
	return string(entry[ringHeader : ringHeader+length]), binary.LittleEndian.Uint64(entry[8:]), true
}

// put puts a row in, in the place of any other with this hash. One that is too long is left out.
func (r *rowRing) put(hash uint64, row []byte, number uint64) {
	if len(row) > ringRowMost {
		return
	}
	s := r.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places == nil {
		s.places = map[uint64]uint32{}
		s.chunks = [][]byte{make([]byte, 0, ringChunk)}
	}
	if len(s.chunks[s.writing])+ringHeader+len(row) > ringChunk {
		s.nextChunk()
	}
	chunk := s.chunks[s.writing]
	s.places[hash] = uint32(s.writing*ringChunk + len(chunk))
	chunk = binary.LittleEndian.AppendUint64(chunk, hash)
	chunk = binary.LittleEndian.AppendUint64(chunk, number)
	chunk = binary.LittleEndian.AppendUint32(chunk, uint32(len(row)))
	s.chunks[s.writing] = append(chunk, row...)
}

// nextChunk makes room: a new chunk, or the oldest one without what was in it.
func (s *ringShard) nextChunk() {
	if len(s.chunks) < chunksPerShard {
		s.chunks = append(s.chunks, make([]byte, 0, ringChunk))
		s.writing = len(s.chunks) - 1
		return
	}
	s.writing = (s.writing + 1) % chunksPerShard
	old := s.chunks[s.writing]
	for at := 0; at < len(old); {
		hash := binary.LittleEndian.Uint64(old[at:])
		if s.places[hash] == uint32(s.writing*ringChunk+at) {
			delete(s.places, hash)
		}
		at += ringHeader + int(binary.LittleEndian.Uint32(old[at+16:]))
	}
	s.chunks[s.writing] = old[:0]
}

func (r *rowRing) remove(hash uint64) {
	s := r.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.places, hash)
}

func (r *rowRing) clear() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.places, s.chunks, s.writing = nil, nil, 0
		s.mu.Unlock()
	}
}
