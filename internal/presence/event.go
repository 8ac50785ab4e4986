package presence

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/directory"
)

// Event is what became of a user. It is shared by all who hear of it, and must not be changed.
type Event struct {
	App  directory.AppID
	User *directory.User
	// Status is what others are told, True what the user's devices have set: they differ for those invisible.
	Status, True Status
	// Text goes with the status; empty when the user has set none for now.
	Text string
	// At is when the user was last active, in Unix seconds: now for those online.
	At int64
	// Sequence grows with each event of an app.
	Sequence int64

	encoded [2][]byte
}

// Form is a way to write events. What an event is written as is kept with it.
type Form uint8

// The forms there may be.
const (
	FirstForm Form = iota
	SecondForm
)

// Encoded returns the event in a form, which encode makes when it is wanted for the first time. Only Listener.Deliver
// may call it: the lock of the app guards what is kept.
func (e *Event) Encoded(form Form, encode func(*Event) []byte) []byte {
	if e.encoded[form] == nil {
		e.encoded[form] = encode(e)
	}
	return e.encoded[form]
}

// Position is how far a listener has come.
type Position struct {
	// Epoch says what the sequence counts: it changes with the subscription, with the user's role, and when the server was
	// started again.
	Epoch    string
	Sequence int64
}

// Welcome is what a session learns when it is opened.
type Welcome struct {
	Position Position
	// UpdatedAt is when the session's own user was last changed, in Unix seconds; 0 for never.
	UpdatedAt int64
	// Resumed says that the session continues where an earlier one ended; People are then those of whom something was
	// missed. Otherwise they are, if the session asked for a snapshot or tried in vain to resume, all of the subscription
	// who are online.
	Resumed bool
	// Snapshot says that People is all there is: who is not in it is offline.
	Snapshot bool
	People   []UserStatus
}

// UserStatus is how a user is seen now.
type UserStatus struct {
	UID directory.UID
	// User is nil when the user is not online.
	User   *directory.User
	Status Status
	Text   string
	// At is when the user was last active, in Unix seconds: 0 when that is not known here.
	At int64
}

// mark is an entry of what has lately happened. Without a viewer it is an announcement of the subject, without a
// subject something after which the view of the viewer must be made anew, and with neither after which everybody's
// must.
type mark struct {
	viewer, subject directory.UID
}

// maxRecent bounds how much is remembered for those who come back.
const maxRecent = 1 << 16

// recent is what has lately happened in an app, by sequence. Guarded by the roster's lock.
type recent struct {
	epoch string
	last  int64
	marks []mark // the last of them; the newest is at (last-1) % maxRecent
}

func newRecent() recent {
	var raw [6]byte
	rand.Read(raw[:])
	return recent{epoch: hex.EncodeToString(raw[:])}
}

// add remembers a mark and returns its sequence.
func (r *recent) add(m mark) int64 {
	if len(r.marks) < maxRecent {
		r.marks = append(r.marks, m)
	} else {
		r.marks[r.last%maxRecent] = m
	}
	r.last++
	return r.last
}

// since returns the subjects of whom a viewer may have missed something after a sequence, with whether that was about
// the two of them, and whether that is all there is to know.
func (r *recent) since(sequence int64, viewer directory.UID) (subjects map[directory.UID]bool, complete bool) {
	if sequence < 0 || sequence > r.last || r.last-sequence > int64(len(r.marks)) {
		return nil, false
	}
	subjects = map[directory.UID]bool{}
	for at := sequence; at < r.last; at++ {
		m := r.marks[at%maxRecent]
		switch {
		case m.subject == "" && (m.viewer == "" || m.viewer == viewer):
			return nil, false
		case m.viewer == "" || m.viewer == viewer:
			subjects[m.subject] = subjects[m.subject] || m.viewer != ""
		}
	}
	return subjects, true
}

// epochOf names what a session may continue: the same subscription of the same user, in the same life of the server.
func (r *roster) epochOf(s *Session) string {
	h := fnv.New32a()
	roles := slices.Sorted(slices.Values(s.subscription.Roles))
	fmt.Fprint(
		h, s.uid, "\x00", s.person.user.Role, "\x00", s.subscription.Scope, "\x00", strings.Join(roles, ","), "\x00",
	)
	for _, uid := range s.subscription.UIDs {
		fmt.Fprint(h, uid, ",")
	}
	return fmt.Sprintf("%s-%08x", r.recent.epoch, h.Sum32())
}

// welcome says what a session that joins is to know. It needs the lock.
func (r *roster) welcome(s *Session, hello Hello) Welcome {
	w := Welcome{Position: Position{Sequence: r.recent.last}, UpdatedAt: s.person.user.UpdatedAt}
	if hello.Extended || hello.Snapshot || hello.Resume != nil {
		w.Position.Epoch = r.epochOf(s)
	}
	if !hello.Snapshot && hello.Resume == nil {
		return w
	}
	if from := hello.Resume; from != nil && from.Epoch == w.Position.Epoch {
		if subjects, complete := r.recent.since(from.Sequence, s.uid); complete {
			w.Resumed, s.unsure = true, true
			for uid, personal := range subjects {
				if uid != s.uid && (personal || r.mayConcern(s, uid)) {
					w.People = append(w.People, r.statusFor(s, uid))
				}
			}
			return w
		}
	}
	// Who resumes after a restart believes what was told before it: those expected back have not gone yet. To who asks
	// anew they are not there.
	w.Snapshot, s.informed = true, hello.Resume == nil
	add := func(p *person) {
		if p != nil && p.told.status.public() != Offline && p.isThereFor(s.informed) && r.hears(s, p) {
			w.People = append(w.People, r.statusOfPerson(p))
			p.noteShown(s)
		}
	}
	switch s.subscription.Scope {
	case NoUsers:
	case TheseUsers:
		for _, uid := range s.subscription.UIDs {
			add(r.people[uid])
		}
	case Friends:
		for uid := range s.person.friends {
			add(r.people[uid])
		}
	case AllUsers, UsersOfRoles:
		for _, p := range r.people {
			add(p)
		}
	}
	return w
}

// mayConcern reports whether a session may have been told of a user before: not of those between whom and its own a
// block stands, or outside of its subscription. Blocks and friendships that came meanwhile have marks of their own. It
// needs the lock.
func (r *roster) mayConcern(s *Session, uid directory.UID) bool {
	if _, blocked := s.person.blocked[uid]; blocked {
		return false
	}
	switch s.subscription.Scope {
	case NoUsers:
		return false
	case Friends:
		return s.person.isFriend(uid)
	case TheseUsers:
		_, asked := slices.BinarySearch(s.subscription.UIDs, uid)
		return asked
	case AllUsers, UsersOfRoles: // roles may have changed meanwhile
	}
	return true
}

// statusFor is how a session sees a user. It needs the lock.
func (r *roster) statusFor(s *Session, uid directory.UID) UserStatus {
	if p, there := r.people[uid]; there && p.told.status.public() != Offline && r.hears(s, p) {
		p.noteShown(s)
		return r.statusOfPerson(p)
	}
	return UserStatus{UID: uid, Status: Offline}
}

func (r *roster) statusOfPerson(p *person) UserStatus {
	return UserStatus{
		UID: p.user.UID, User: p.user, Status: p.told.status.public(), Text: p.told.text, At: r.presence.dir.Now(),
	}
}
