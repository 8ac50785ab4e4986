package sqlstore

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// get returns a copy of the row with a hash, and its number.
func get(ring *rowRing, hash uint64) (row string, number uint64, found bool) {
	ring.read(hash, func(bytes []byte, n uint64) { row, number, found = string(bytes), n, true })
	return row, number, found
}

// TestRowRing puts in more than there is room for, with hashes that crowd one shard and few buckets, and takes some
// out. What the ring returns is what was put in last under that hash, and what was put in just now is there.
func TestRowRing(t *testing.T) {
	t.Parallel()
	ring, want := new(rowRing), map[uint64]string{}
	random := rand.New(rand.NewPCG(1, 2))
	kept := 0
	for n := range 40_000 {
		hash := random.Uint64N(4)<<32 | random.Uint64N(5000)
		if random.IntN(10) == 0 {
			ring.remove(hash)
			delete(want, hash)
			continue
		}
		row := strings.Repeat(string(rune('a'+n%26)), random.IntN(ringRowMost/4))
		ring.put(hash, []byte(row), uint64(n))
		want[hash] = row
		if got, number, found := get(ring, hash); !found || got != row || number != uint64(n) {
			t.Fatalf("what was put in just now: got %.10q %d %v, want %.10q %d", got, number, found, row, n)
		}
		other := random.Uint64N(4)<<32 | random.Uint64N(5000)
		if got, _, found := get(ring, other); found {
			kept++
			if got != want[other] {
				t.Fatalf("got %.10q, want %.10q", got, want[other])
			}
		}
	}
	if kept == 0 {
		t.Error("nothing was kept")
	}
	ring.clear()
	for hash := range want {
		if _, _, found := get(ring, hash); found {
			t.Fatal("something is left")
		}
	}
}

// TestRowRing_readInTurn reads three times as many rows in turn as there is room for. Some are found each time around.
func TestRowRing_readInTurn(t *testing.T) {
	t.Parallel()
	ring, row := new(rowRing), make([]byte, ringRowMost/2)
	const rows = 3 * chunksPerShard * ringChunk / (ringRowMost / 2)
	found := 0
	for n := range 20 * rows {
		hash := uint64(n%rows)<<32 | uint64(n%rows)
		if _, _, known := get(ring, hash); known {
			found++
		} else if ring.welcomes(hash) {
			ring.put(hash, row, 0)
		}
	}
	if found < 20*rows/10 {
		t.Errorf("of %d reads %d are found", 20*rows, found)
	}
}

func TestRowRing_leavesLongRowsOut(t *testing.T) {
	t.Parallel()
	ring := new(rowRing)
	ring.put(7, []byte("short"), 1)
	ring.put(7, make([]byte, ringRowMost+1), 2)
	if _, _, found := get(ring, 7); found {
		t.Error("an old row is left in the place of a long one")
	}
}
