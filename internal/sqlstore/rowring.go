package sqlstore

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// rowRing holds the rows that were put in last, in a bounded amount of memory that is not the garbage collector's: it
// would let the heap grow by as much again. Reading and putting cost a fraction of what the libraries take for it,
// which keep account of every use: here a row that nobody has read for long and one that is read all the time are
// dropped alike, and one of the next reads puts it back.
type rowRing struct {
	shards [16]ringShard
	// mapping is done once, when the first row is put in.
	mapping sync.Once
}

type ringShard struct {
	mu sync.Mutex
	// index holds where rows begin, in buckets that are chosen by hash. See slots. Nil until there is memory.
	index []byte
	// chunks hold the rows. They are used in turn, and each is filled from its begin to its end.
	chunks [chunksPerShard]ringRows
	// writing is the chunk that rows are put into.
	writing int
	// full says that what is put in drops something else.
	full atomic.Bool
}

// ringRows are rows behind each other, each with a header: its hash, a number that its owner gives it, and its length.
type ringRows struct{ memory, rows []byte }

const (
	chunksPerShard = 16
	ringChunk      = 64 << 10
	ringHeader     = 8 + 8 + 4
	// ringRowMost is how long a row may be.
	ringRowMost = ringChunk / 8

	// A slot of the index holds half of a hash, and behind it the place of the row, from one on: zero is a free slot.
	slotSize       = 8
	slotsPerBucket = 8
	ringBucket     = slotsPerBucket * slotSize
	indexSize      = 1024 * ringBucket
	shardSize      = indexSize + chunksPerShard*ringChunk
)

func (r *rowRing) shard(hash uint64) *ringShard { return &r.shards[hash>>60] }

// read calls fn with the row with a hash, and its number, if there is one. The row is fn's only until it returns; fn
// must not use the ring.
func (r *rowRing) read(hash uint64, fn func(row []byte, number uint64)) {
	s := r.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot := s.find(hash); slot != nil {
		entry := s.entry(slot)
		length := binary.LittleEndian.Uint32(entry[16:])
		fn(entry[ringHeader:ringHeader+length], binary.LittleEndian.Uint64(entry[8:]))
	}
}

// admission is of how many rows that were read one is put into a full ring.
const admission = 8

// welcomes tells whether a row that was read should be put in. A full ring takes few: when more rows are read in turn
// than it has room for, each would drop one that is read sooner.
func (r *rowRing) welcomes(hash uint64) bool {
	return !r.shard(hash).full.Load() || rand.Uint32N(admission) == 0
}

// put puts a row in, in the place of any other with this hash. One that is too long, or finds no memory, is left out.
func (r *rowRing) put(hash uint64, row []byte, number uint64) {
	r.mapping.Do(r.mapMemory)
	s := r.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(hash)
	if s.index == nil || len(row) > ringRowMost {
		return
	}
	if len(s.chunks[s.writing].rows)+ringHeader+len(row) > ringChunk {
		s.nextChunk()
	}
	chunk := &s.chunks[s.writing]
	place := uint32(s.writing*ringChunk + len(chunk.rows))
	chunk.rows = binary.LittleEndian.AppendUint64(chunk.rows, hash)
	chunk.rows = binary.LittleEndian.AppendUint64(chunk.rows, number)
	chunk.rows = binary.LittleEndian.AppendUint32(chunk.rows, uint32(len(row)))
	chunk.rows = append(chunk.rows, row...)
	slot := s.free(hash)
	binary.LittleEndian.PutUint32(slot, half(hash))
	binary.LittleEndian.PutUint32(slot[4:], place+1)
}

// mapMemory gives every shard its memory. The kernel backs it with pages when they are first written to. Without memory
// the ring stays empty.
func (r *rowRing) mapMemory() {
	memory, unmap := unmanagedMemory(len(r.shards) * shardSize)
	if memory == nil {
		return
	}
	runtime.AddCleanup(r, unmap, memory)
	for i := range r.shards {
		own := memory[i*shardSize : (i+1)*shardSize]
		s := &r.shards[i]
		s.mu.Lock()
		s.index = own[:indexSize:indexSize]
		for n := range s.chunks {
			from := indexSize + n*ringChunk
			s.chunks[n].memory = own[from : from : from+ringChunk]
			s.chunks[n].rows = s.chunks[n].memory
		}
		s.mu.Unlock()
	}
}

// half is the part of a hash that tells the rows of a bucket apart; the other chooses the shard and the bucket.
func half(hash uint64) uint32 { return uint32(hash) }

func (s *ringShard) bucket(hash uint64) []byte {
	at := int(hash>>32) % (indexSize / ringBucket) * ringBucket
	return s.index[at : at+ringBucket]
}

// entry returns the row of a slot, from its header on to the end of its chunk.
func (s *ringShard) entry(slot []byte) []byte {
	place := binary.LittleEndian.Uint32(slot[4:]) - 1
	return s.chunks[place/ringChunk].rows[place%ringChunk:]
}

// find returns the slot of the row with a hash, nil when there is none.
func (s *ringShard) find(hash uint64) []byte {
	if s.index == nil {
		return nil
	}
	bucket := s.bucket(hash)
	for at := 0; at < ringBucket; at += slotSize {
		slot := bucket[at : at+slotSize]
		if binary.LittleEndian.Uint32(slot) == half(hash) && !isFree(slot) &&
			binary.LittleEndian.Uint64(s.entry(slot)) == hash {
			return slot
		}
	}
	return nil
}

func isFree(slot []byte) bool { return binary.LittleEndian.Uint32(slot[4:]) == 0 }

// free returns a free slot for a hash. When its bucket is full, that of the oldest row is made free.
func (s *ringShard) free(hash uint64) []byte {
	bucket := s.bucket(hash)
	var oldest []byte
	highest := -1
	for at := 0; at < ringBucket; at += slotSize {
		slot := bucket[at : at+slotSize]
		if isFree(slot) {
			return slot
		}
		if age := s.age(slot); age > highest {
			oldest, highest = slot, age
		}
	}
	return oldest
}

// age tells how long ago a row was put in: in bytes that have been put in since, about.
func (s *ringShard) age(slot []byte) int {
	const size = chunksPerShard * ringChunk
	place := int(binary.LittleEndian.Uint32(slot[4:])) - 1
	return ((s.writing+1)*ringChunk - place + size) % size
}

// nextChunk makes room: the oldest chunk without what was in it.
func (s *ringShard) nextChunk() {
	s.writing = (s.writing + 1) % chunksPerShard
	if s.writing == 0 {
		s.full.Store(true)
	}
	chunk := &s.chunks[s.writing]
	for at := 0; at < len(chunk.rows); {
		hash := binary.LittleEndian.Uint64(chunk.rows[at:])
		if slot := s.find(hash); slot != nil && binary.LittleEndian.Uint32(slot[4:])-1 == uint32(s.writing*ringChunk+at) {
			clear(slot)
		}
		at += ringHeader + int(binary.LittleEndian.Uint32(chunk.rows[at+16:]))
	}
	chunk.rows = chunk.memory
}

func (r *rowRing) remove(hash uint64) {
	s := r.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(hash)
}

func (s *ringShard) remove(hash uint64) {
	if slot := s.find(hash); slot != nil {
		clear(slot)
	}
}

func (r *rowRing) clear() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		clear(s.index)
		s.writing = 0
		s.full.Store(false)
		for n := range s.chunks {
			s.chunks[n].rows = s.chunks[n].memory
		}
		s.mu.Unlock()
	}
}
