package directory

import (
	"iter"
	"slices"
)

// ranking holds entries in the order of ByName, so that a page of any depth is found without looking at those before it.
type ranking struct {
	// chunks hold the entries in order, at most maxChunk in each.
	chunks [][]*onlineEntry
	count  int
}

const maxChunk = 512

func (e *onlineEntry) before(nameKey string, uid UID) bool {
	if e.nameKey != nameKey {
		return e.nameKey < nameKey
	}
	return e.User.UID < uid
}

// locate returns the place of the first entry that is not before a position.
func (r *ranking) locate(nameKey string, uid UID) (chunk, at int) {
	chunk, _ = slices.BinarySearchFunc(r.chunks, 0, func(entries []*onlineEntry, _ int) int {
		return side(entries[len(entries)-1].before(nameKey, uid))
	})
	if chunk == len(r.chunks) {
		return chunk, 0
	}
	at, _ = slices.BinarySearchFunc(r.chunks[chunk], 0, func(entry *onlineEntry, _ int) int { return side(entry.before(nameKey, uid)) })
	return chunk, at
}

// side is where a searched position is: behind what is before it.
func side(before bool) int {
	if before {
		return -1
	}
	return 1
}

func (r *ranking) insert(entry *onlineEntry) {
	r.count++
	chunk, at := r.locate(entry.nameKey, entry.User.UID)
	switch {
	case len(r.chunks) == 0:
		r.chunks = append(r.chunks, []*onlineEntry{entry})
		return
	case chunk == len(r.chunks): // behind all
		chunk--
		at = len(r.chunks[chunk])
	}
	r.chunks[chunk] = slices.Insert(r.chunks[chunk], at, entry)
	if full := r.chunks[chunk]; len(full) > maxChunk {
		half := len(full) / 2
		r.chunks = slices.Insert(r.chunks, chunk+1, slices.Clone(full[half:]))
		r.chunks[chunk] = slices.Clone(full[:half])
	}
}

// remove takes out an entry that is there.
func (r *ranking) remove(entry *onlineEntry) {
	r.count--
	chunk, at := r.locate(entry.nameKey, entry.User.UID)
	r.chunks[chunk] = slices.Delete(r.chunks[chunk], at, at+1)
	if len(r.chunks[chunk]) == 0 {
		r.chunks = slices.Delete(r.chunks, chunk, chunk+1)
	}
}

// rank returns how many entries are before a position.
func (r *ranking) rank(nameKey string, uid UID) int {
	chunk, rank := r.locate(nameKey, uid)
	for _, entries := range r.chunks[:chunk] {
		rank += len(entries)
	}
	return rank
}

// from yields the entries in order, from the one with a number on.
func (r *ranking) from(number int) iter.Seq[*onlineEntry] {
	return func(yield func(*onlineEntry) bool) {
		for _, entries := range r.chunks {
			if number >= len(entries) {
				number -= len(entries)
				continue
			}
			for _, entry := range entries[number:] {
				if !yield(entry) {
					return
				}
			}
			number = 0
		}
	}
}
