package userindex

import (
	"hash/maphash"
	"math/bits"
)

// lookup finds users by uid: a hash table of their numbers, whose uids lie in the arena.
type lookup struct {
	seed  maphash.Seed
	slots []uint32 // a number and one; 0 is empty
	used  int
}

// fullest is how many of ten slots are used at most.
const fullest = 8

func (l *lookup) init() { l.seed = maphash.MakeSeed() }

// slot returns where to begin to look for a uid.
func (l *lookup) slot(uid string) int {
	at, _ := bits.Mul64(maphash.String(l.seed, uid), uint64(len(l.slots)))
	return int(at)
}

func (l *lookup) next(at int) int {
	if at++; at == len(l.slots) {
		return 0
	}
	return at
}

// find returns the number of the user with a uid.
func (x *Index) find(uid string) (number uint32, exists bool) {
	l := &x.byUID
	if l.used == 0 {
		return 0, false
	}
	for at := l.slot(uid); l.slots[at] != 0; at = l.next(at) {
		if number = l.slots[at] - 1; x.uid(number) == uid {
			return number, true
		}
	}
	return 0, false
}

// note makes find know a user that it does not know.
func (x *Index) note(number uint32) {
	l := &x.byUID
	if (l.used+1)*10 > len(l.slots)*fullest {
		old := l.slots
		l.slots = make([]uint32, max(16, len(old)+len(old)/4))
		for _, slot := range old {
			if slot != 0 {
				x.place(slot - 1)
			}
		}
	}
	l.used++
	x.place(number)
}

// noteAll is note for everybody.
func (x *Index) noteAll() {
	l := &x.byUID
	l.slots, l.used = make([]uint32, max(16, len(x.users)*10/(fullest-1))), len(x.users)
	for i := range x.users {
		x.place(uint32(i))
	}
}

func (x *Index) place(number uint32) {
	l := &x.byUID
	at := l.slot(x.uid(number))
	for l.slots[at] != 0 {
		at = l.next(at)
	}
	l.slots[at] = number + 1
}

// forget makes find not know a user any more. Those behind it move up.
func (x *Index) forget(number uint32) {
	l := &x.byUID
	at := l.slot(x.uid(number))
	for l.slots[at] != number+1 {
		at = l.next(at)
	}
	l.used--
	for hole := at; ; {
		if at = l.next(at); l.slots[at] == 0 {
			l.slots[hole] = 0
			return
		}
		home := l.slot(x.uid(l.slots[at] - 1))
		if (at-home+len(l.slots))%len(l.slots) >= (at-hole+len(l.slots))%len(l.slots) { // it may stand in the hole
			l.slots[hole] = l.slots[at]
			hole = at
		}
	}
}
