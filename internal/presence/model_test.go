package presence_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// TestPresenceAgreesWithModel lets devices come, go, fall silent and change their status, and users block, befriend and
// change roles, for hours of virtual time. Whenever it is quiet, what each session was told is what the policy says of
// who is there; no event of a user comes after a later one; and no user with a live session is told to be offline.
func TestPresenceAgreesWithModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newRun(t, seed).play(250) })
		})
	}
}

var allUIDs = []directory.UID{"ada", "bob", "cy", "dan", "eve", "flo"}

// device is a session as the model knows it.
type device struct {
	*listener
	session *presence.Session
	shown   shown
}

// shown is how a device presents itself: as it set last, until that ends, and before that as it set last without an
// end.
type shown struct {
	status, lasting presence.Status
	until           time.Time
}

func available() shown { return shown{status: presence.Available, lasting: presence.Available} }

func (s *shown) set(status presence.Status, until time.Time) {
	if s.now(); until.IsZero() {
		s.lasting = status
	}
	s.status, s.until = status, until
}

func (s *shown) now() presence.Status {
	if !s.until.IsZero() && !time.Now().Before(s.until) {
		s.status, s.until = s.lasting, time.Time{}
	}
	return s.status
}

// gracePeriod is a device that may be back, unless its auth token is revoked.
type gracePeriod struct {
	uid   directory.UID
	name  string
	shown shown
	until time.Time
}

type run struct {
	*testing.T
	random   *rand.Rand
	dir      *directory.Directory
	presence *presence.Presence
	caller   directory.Caller
	counts   *counts
	tokens   map[directory.UID]directory.TokenID
	// skew is by how much the time of day is wrong, in nanoseconds.
	skew atomic.Int64

	// mu guards what follows from the presence, which looks at it when it delivers. It is not held while calling into it.
	mu      sync.Mutex
	devices []*device
	absent  []gracePeriod
	names   int
	// unsettled says that since it was last quiet something changed in who may hear of whom, or be there.
	unsettled bool
}

func newRun(t *testing.T, seed uint64) *run {
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := secret.NewKeyring(secret.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	r := &run{T: t, random: rand.New(rand.NewPCG(seed, 1)), counts: &counts{}, tokens: map[directory.UID]directory.TokenID{}}
	dir := directory.New(directory.Config{Store: store, Secrets: keyring, Now: func() time.Time {
		return time.Now().Add(time.Duration(r.skew.Load()))
	}})
	created, err := dir.CreateApp(t.Context(), "operator", directory.NewApp{Name: "Model"})
	if err != nil {
		t.Fatal(err)
	}
	r.dir, r.caller = dir, directory.Caller{App: created.App.ID, Actor: "key:test", Private: true}
	r.presence = presence.New(presence.Config{Directory: dir, Observer: r.counts, Grace: 8 * time.Second, SilenceGrace: 5 * time.Second})
	dir.UseSessions(r.presence)
	t.Cleanup(func() {
		r.presence.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	r.do(dir.CreateRole(t.Context(), r.caller, directory.Role{ID: "star", Name: "Star"}))
	r.do(dir.CreateRole(t.Context(), r.caller, directory.Role{ID: "shy", Name: "Shy", Settings: directory.RoleSettings{ListUsers: "friendsOnly"}}))
	for _, uid := range allUIDs {
		r.do(dir.CreateUser(t.Context(), r.caller, directory.NewUser{UID: string(uid), Name: string(uid)}))
		r.mint(uid)
	}
	return r
}

// do fails on an error other than one of the rules.
func (r *run) do(_ any, err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *run) mint(uid directory.UID) {
	token, err := r.dir.CreateToken(r.Context(), r.caller, string(uid), directory.Device{})
	r.do(token, err)
	r.tokens[uid] = token.ID
}

func (r *run) play(steps int) {
	for range steps {
		name, act := r.draw()
		act()
		if r.random.IntN(3) > 0 {
			continue // several things happen at once
		}
		time.Sleep(time.Duration(r.random.IntN(9000)+600) * time.Millisecond)
		synctest.Wait()
		r.compare(name)
		r.note(func() { r.unsettled = false })
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	r.compare("the end")
	if r.counts.wrong.Load() != 0 {
		r.Errorf("the checker found %d users whose announced status was wrong", r.counts.wrong.Load())
	}
}

func (r *run) uid() directory.UID { return allUIDs[r.random.IntN(len(allUIDs))] }

func (r *run) draw() (name string, act func()) {
	uid, other := r.uid(), r.uid()
	policy, err := r.dir.Policy(r.Context(), r.caller.App)
	r.do(policy, err)
	relate := func(change func() (any, error)) func() {
		return func() {
			if uid != other {
				r.unsettle()
				r.do(change())
			}
		}
	}
	switch r.random.IntN(16) {
	case 0, 1, 2:
		return "connect", func() { r.connect(uid) }
	case 3, 4:
		return "leave", r.leave
	case 5:
		return "come back", r.comeBack
	case 6:
		return "status", r.setStatus
	case 7:
		return "block", relate(func() (any, error) {
			return r.dir.BlockUsers(r.Context(), r.caller, policy, string(uid), []string{string(other)})
		})
	case 8:
		return "unblock", relate(func() (any, error) {
			return r.dir.UnblockUsers(r.Context(), r.caller, policy, string(uid), []string{string(other)})
		})
	case 9:
		return "befriend", relate(func() (any, error) {
			return r.dir.AddFriends(r.Context(), r.caller, string(uid), []string{string(other)})
		})
	case 10:
		return "part", relate(func() (any, error) {
			return nil, r.dir.RemoveFriends(r.Context(), r.caller, string(uid), []string{string(other)})
		})
	case 11:
		role := []string{"default", "star", "shy"}[r.random.IntN(3)]
		r.names++
		rename := fmt.Sprint(uid, r.names)
		return "role", func() {
			r.unsettle()
			r.do(r.dir.UpdateUser(r.Context(), r.caller, string(uid), directory.UserPatch{Role: &role, Name: &rename}))
		}
	case 12:
		settings := directory.RoleSettings{ListUsers: []string{"all", "friendsOnly"}[r.random.IntN(2)]}
		return "policy", func() {
			r.unsettle()
			r.do(r.dir.UpdateRole(r.Context(), r.caller, "star", directory.RolePatch{Settings: &settings}))
		}
	case 13:
		r.names++
		secret := json.RawMessage(fmt.Sprintf(`{"@private":{"n":%d}}`, r.names))
		return "private metadata", func() {
			r.do(r.dir.UpdateUser(r.Context(), r.caller, string(uid), directory.UserPatch{Metadata: &secret}))
		}
	case 14:
		r.names++
		rename := fmt.Sprint(uid, r.names)
		return "rename", func() { r.do(r.dir.UpdateUser(r.Context(), r.caller, string(uid), directory.UserPatch{Name: &rename})) }
	default:
		return "revoke", func() { r.revoke(uid) }
	}
}

func (r *run) connect(uid directory.UID) {
	r.open(uid, fmt.Sprint("device", r.random.IntN(1000)), available())
}

func (r *run) open(uid directory.UID, name string, as shown) {
	scopes := []presence.Subscription{
		{Scope: presence.AllUsers},
		{Scope: presence.Friends},
		{Scope: presence.UsersOfRoles, Roles: []string{"star"}},
		{Scope: presence.TheseUsers, UIDs: []directory.UID{"ada", "cy"}},
		{},
	}
	r.join(uid, name, as, scopes[r.random.IntN(len(scopes))])
}

func (r *run) join(uid directory.UID, name string, as shown, to presence.Subscription) {
	d := &device{shown: as, listener: &listener{
		run: r, uid: uid, name: name, view: map[directory.UID]told{}, subscription: to, extended: r.random.IntN(2) == 0,
	}}
	// Who is back is as it was, whether it says so again or not.
	hello := presence.Hello{
		App: r.caller.App, UID: uid, Token: r.tokens[uid], Device: name, Subscription: d.subscription, Snapshot: true, Extended: d.extended,
	}
	if r.random.IntN(2) == 0 {
		hello.Status, hello.Until = d.shown.now(), d.shown.until
		hello.Text = text(hello.Status)
	}
	session, err := r.presence.Open(r.Context(), hello, d.listener)
	r.do(session, err)
	d.session = session
	r.note(func() {
		r.devices = append(r.devices, d)
		r.absent = slices.DeleteFunc(r.absent, func(a gracePeriod) bool { return a.uid == uid && a.name == name })
	})
}

func (r *run) leave() {
	if len(r.devices) == 0 {
		return
	}
	at := r.random.IntN(len(r.devices))
	d := r.devices[at]
	r.note(func() { r.devices = slices.Delete(r.devices, at, at+1) })
	now := time.Now()
	gone := gracePeriod{uid: d.uid, name: d.name, shown: d.shown}
	switch r.random.IntN(3) {
	case 0:
		d.session.End(presence.Closed, now)
		return
	case 1:
		gone.until = now.Add(8 * time.Second)
		d.session.End(presence.Reset, now)
	default:
		gone.until = now.Add(5 * time.Second)
		d.session.End(presence.Silent, now.Add(-presence.Silence))
	}
	r.note(func() { r.absent = append(r.absent, gone) })
}

func (r *run) comeBack() {
	for _, gone := range r.absent {
		if time.Now().Before(gone.until) {
			r.open(gone.uid, gone.name, gone.shown)
			return
		}
	}
}

func (r *run) setStatus() {
	if len(r.devices) == 0 {
		return
	}
	d := r.devices[r.random.IntN(len(r.devices))]
	status := []presence.Status{presence.Available, presence.Away, presence.Busy, presence.Invisible}[r.random.IntN(4)]
	var until time.Time
	if r.random.IntN(2) == 0 {
		until = time.Now().Add(time.Duration(1+r.random.IntN(30)) * time.Second)
	}
	r.note(func() { d.shown.set(status, until) })
	d.session.SetStatus(status, text(status), until)
}

// text is what devices set beside a status.
func text(status presence.Status) string {
	if status == presence.Available {
		return ""
	}
	return "I am " + status.String()
}

// revoke revokes all tokens of a user: its sessions end at once, and those that are away do not come back.
func (r *run) revoke(uid directory.UID) {
	live := 0
	for _, d := range r.devices {
		if d.uid == uid {
			live++
		}
	}
	r.unsettle()
	revoked, err := r.dir.DeleteTokens(r.Context(), r.caller, string(uid), 0)
	r.do(revoked, err)
	if revoked.Sockets != live {
		r.Fatalf("%d sockets were closed, not %d", revoked.Sockets, live)
	}
	r.note(func() {
		r.devices = slices.DeleteFunc(r.devices, func(d *device) bool { return d.uid == uid })
		r.absent = slices.DeleteFunc(r.absent, func(a gracePeriod) bool { return a.uid == uid })
	})
	r.mint(uid)
}

// note changes what the model knows.
func (r *run) note(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *run) unsettle() { r.note(func() { r.unsettled = true }) }

// settled reports whether nothing has changed lately in who may hear of whom.
func (r *run) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.unsettled
}

// status is what a user's devices make of it.
func (r *run) status(uid directory.UID) presence.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	merged := presence.Offline
	for _, d := range r.devices {
		if d.uid == uid {
			merged = max(merged, d.shown.now())
		}
	}
	for _, gone := range r.absent {
		if gone.uid == uid && time.Now().Before(gone.until) {
			merged = max(merged, gone.shown.now())
		}
	}
	if merged == presence.Invisible {
		return presence.Offline
	}
	return merged
}

// compare checks what every session was told against what the policy says.
func (r *run) compare(after string) {
	r.Helper()
	policy, err := r.dir.Policy(r.Context(), r.caller.App)
	r.do(policy, err)
	online := 0
	for _, uid := range allUIDs {
		is := r.status(uid)
		if is != presence.Offline {
			online++
		}
		if told, _ := r.presence.Status(r.caller.App, uid, true); told != is {
			r.Fatalf("after %q: %s is %v, want %v", after, uid, told, is)
		}
		for _, d := range r.devices {
			if d.uid == uid {
				continue
			}
			explained, err := r.dir.ExplainVisibility(r.Context(), r.caller, policy, string(d.uid), string(uid))
			r.do(explained, err)
			want := presence.Offline
			if visibility := explained.Visibility; visibility.Presence && (visibility.Listed || visibility.Detailed) && selects(d.subscription, explained) {
				want = is
			}
			believed := d.believes(uid)
			if !d.extended && want != presence.Offline {
				want = presence.Available // the rest it cannot tell
			}
			if believed != want {
				r.Fatalf("after %q: %s (%+v) believes that %s is %v, and should believe %v (%s)", after, d.uid, d.subscription, uid, believed, want, explained.Visibility.Rule)
			}
		}
	}
	if count := r.dir.CountOnline(r.caller.App); count != online || int(r.counts.online.Load()) != online {
		r.Fatalf("after %q: %d are counted online and %d observed, want %d", after, count, r.counts.online.Load(), online)
	}
	if int(r.counts.sessions.Load()) != len(r.devices) {
		r.Fatalf("after %q: %d sessions are counted, want %d", after, r.counts.sessions.Load(), len(r.devices))
	}
}

func selects(subscription presence.Subscription, e directory.Explanation) bool {
	switch subscription.Scope {
	case presence.AllUsers:
		return true
	case presence.Friends:
		return e.Relation.FriendsSince != 0
	case presence.UsersOfRoles:
		return slices.Contains(subscription.Roles, e.Subject.Role)
	case presence.TheseUsers:
		return slices.Contains(subscription.UIDs, e.Subject.UID)
	case presence.NoUsers:
	}
	return false
}

// listener keeps what a session is told.
type listener struct {
	run          *run
	uid          directory.UID
	name         string
	subscription presence.Subscription
	extended     bool
	view         map[directory.UID]told
	sequence     int64
}

// told is what a session was told of somebody: as far as it can tell, no two events in a row say the same.
type told struct {
	status presence.Status
	text   string
	look   string
}

func (l *listener) tell(status presence.Status, text string, user *directory.User) told {
	switch {
	case status == presence.Offline:
		return told{status: status}
	case !l.extended:
		status, text = presence.Available, ""
	}
	return told{status, text, fmt.Sprint(user.Name, user.Role, string(directory.PublicMetadata(user.Metadata)))}
}

func (l *listener) Joined(_ *presence.Session, welcome presence.Welcome) bool {
	l.run.mu.Lock()
	defer l.run.mu.Unlock()
	l.sequence = welcome.Position.Sequence
	for _, standing := range welcome.People {
		l.view[standing.UID] = l.tell(standing.Status, standing.Text, standing.User)
	}
	return true
}

func (l *listener) Deliver(event *presence.Event) {
	if event.Sequence <= l.sequence {
		l.run.Errorf("%s got event %d after %d", l.uid, event.Sequence, l.sequence)
	}
	if event.User.UID == l.uid {
		l.run.Errorf("%s hears of itself", l.uid)
	}
	if event.Status == presence.Offline && l.run.status(event.User.UID) != presence.Offline && l.run.settled() {
		l.run.Errorf("%s is told that %s is offline, who is not", l.uid, event.User.UID)
	}
	l.run.mu.Lock()
	defer l.run.mu.Unlock()
	l.sequence = event.Sequence
	now := l.tell(event.Status, event.Text, event.User)
	if before := l.view[event.User.UID]; before == now {
		l.run.Errorf("%s is told twice that %s is %v", l.uid, event.User.UID, now)
	}
	l.view[event.User.UID] = now
}

// believes is what the session was last told of a user.
func (l *listener) believes(uid directory.UID) presence.Status {
	l.run.mu.Lock()
	defer l.run.mu.Unlock()
	return l.view[uid].status
}

func (l *listener) Notify(presence.Notice) {}
func (l *listener) Ended(presence.Cause)   {}

// counts is what a presence reports of itself.
type counts struct{ sessions, online, wrong atomic.Int64 }

func (c *counts) SessionOpened()                                 { c.sessions.Add(1) }
func (c *counts) SessionEnded(presence.Cause)                    { c.sessions.Add(-1) }
func (c *counts) OnlineChanged(by int)                           { c.online.Add(int64(by)) }
func (c *counts) Announced(presence.Status, presence.Cause, int) {}
func (c *counts) FalselyOffline()                                { c.wrong.Add(1) }
func (c *counts) Stuck()                                         { c.wrong.Add(1) }

// TestEventsOfAUserAreSpaced lets one user change its status all the time: those who listen hear of it at most once in
// 250 ms, at once for the first time, and in the end what is true.
func TestEventsOfAUserAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		var heard []time.Time
		var last presence.Status
		watcher := &recorder{deliver: func(event *presence.Event) {
			heard, last = append(heard, time.Now()), event.Status
		}}
		open := func(uid directory.UID, listener presence.Listener, scope presence.Scope) *presence.Session {
			session, err := r.presence.Open(t.Context(), presence.Hello{App: r.caller.App, UID: uid, Token: r.tokens[uid], Subscription: presence.Subscription{Scope: scope}, Extended: true}, listener)
			r.do(session, err)
			return session
		}
		open("ada", watcher, presence.AllUsers)
		began := time.Now()
		bob := open("bob", &recorder{}, presence.NoUsers)
		for i := range 1000 {
			time.Sleep(3 * time.Millisecond)
			bob.SetStatus([]presence.Status{presence.Available, presence.Busy, presence.Away}[i%3], "", time.Time{})
		}
		bob.SetStatus(presence.Busy, "", time.Time{})
		time.Sleep(time.Second)
		synctest.Wait()
		if !heard[0].Equal(began) || last != presence.Busy {
			t.Errorf("heard first after %v, last %v", heard[0].Sub(began), last)
		}
		for i := 1; i < len(heard); i++ {
			if gap := heard[i].Sub(heard[i-1]); gap < 250*time.Millisecond {
				t.Errorf("heard twice within %v", gap)
			}
		}
		if len(heard) < 12 {
			t.Errorf("heard only %d times in 3 s", len(heard))
		}
	})
}

type recorder struct{ deliver func(*presence.Event) }

func (*recorder) Joined(*presence.Session, presence.Welcome) bool { return true }
func (r *recorder) Deliver(event *presence.Event) {
	if r.deliver != nil {
		r.deliver(event)
	}
}
func (*recorder) Notify(presence.Notice) {}
func (*recorder) Ended(presence.Cause)   {}

// TestLastActiveIsKept ends sessions in every way and looks at what is stored.
func TestLastActiveIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		began := time.Now().Unix()
		session, err := r.presence.Open(t.Context(), presence.Hello{App: r.caller.App, UID: "ada", Token: r.tokens["ada"]}, &recorder{})
		r.do(session, err)
		time.Sleep(100 * time.Second)
		session.End(presence.Silent, time.Now().Add(-presence.Silence))
		if online, _ := r.dir.PresenceOf(r.caller, "ada"); !online {
			t.Error("offline within the grace")
		}
		time.Sleep(5*time.Second + time.Millisecond)
		if online, _ := r.dir.PresenceOf(r.caller, "ada"); online {
			t.Error("online after the grace")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		user, _, err := r.dir.ActiveUser(context.WithoutCancel(t.Context()), r.caller.App, "ada")
		if r.do(user, err); user.LastActiveAt != began+80 {
			t.Errorf("stored is %d s after it came", user.LastActiveAt-began)
		}
		if online, at := r.dir.PresenceOf(r.caller, "ada"); online || at != 0 {
			t.Errorf("still held beside the store: %v %d", online, at)
		}
	})
}
