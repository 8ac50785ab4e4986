package transfer

import (
	"fmt"
	"testing"
)

// TestSeen finds every uid again, at every size of the table.
func TestSeen(t *testing.T) {
	t.Parallel()
	s, err := newSeen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	const uids = 5 * firstSlots
	for entry := 1; entry <= 2*uids; entry++ {
		uid := fmt.Sprintf("User-%d", entry%uids)
		written := uid
		if entry > uids && entry%3 == 0 {
			written = "another"
		}
		earlier, alike, err := s.add(uid, written, entry)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case entry <= uids && earlier != 0:
			t.Fatalf("entry %d is new, and entry %d has its uid", entry, earlier)
		case entry > uids && (earlier != entry-uids || alike != (entry%3 != 0)):
			t.Fatalf("entry %d has the uid of entry %d, alike: %v", entry, earlier, alike)
		}
	}
	if s.slots <= firstSlots {
		t.Error("the table has not grown")
	}
}
