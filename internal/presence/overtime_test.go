package presence_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
)

// diary is a listener that writes down what it hears, as "uid status text".
type diary struct {
	mu    sync.Mutex
	lines []string // guarded by mu
	// present is what it was shown at first.
	present []string
}

func (d *diary) Joined(_ *presence.Session, welcome presence.Welcome) bool {
	for _, standing := range welcome.People {
		d.present = append(d.present, line(standing.UID, standing.Status, standing.Text))
	}
	slices.Sort(d.present)
	return true
}

func (d *diary) Deliver(event *presence.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line(event.User.UID, event.Status, event.Text))
}

func (*diary) Notify(presence.Notice) {}
func (*diary) Ended(presence.Cause)   {}

func line(uid directory.UID, status presence.Status, text string) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", uid, status, text))
}

// has fails unless the diary says this since it was last asked.
func (d *diary) has(t *testing.T, want ...string) {
	t.Helper()
	if heard := d.take(); !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
}

// take returns what the diary says since it was last asked.
func (d *diary) take() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

// enter opens a session of a user, which hears of everybody.
func (r *run) enter(uid directory.UID, hello presence.Hello) (*presence.Session, *diary) {
	r.Helper()
	hello.App, hello.UID, hello.Token = r.caller.App, uid, r.tokens[uid]
	hello.Subscription.Scope = presence.AllUsers
	d := &diary{}
	session, err := r.presence.Open(r.Context(), hello, d)
	r.do(session, err)
	return session, d
}

// TestStatusWithAnEnd sets statuses that end, and listens as one who knows statuses and as one who knows only who is
// online.
func TestStatusWithAnEnd(t *testing.T) {
	in := func(seconds int) time.Time { return time.Now().Add(time.Duration(seconds) * time.Second) }
	for _, test := range []struct {
		name string
		play func(t *testing.T, r *run, bob *presence.Session, ada *diary)
	}{
		{"goes back to what was before, whole", func(t *testing.T, _ *run, bob *presence.Session, ada *diary) {
			bob.SetStatus(presence.Away, "at lunch", time.Time{})
			ada.has(t, "bob away at lunch")
			time.Sleep(time.Second)
			bob.SetStatus(presence.Busy, "in a meeting", in(30))
			ada.has(t, "bob busy in a meeting")
			time.Sleep(30*time.Second - time.Millisecond)
			ada.has(t)
			time.Sleep(time.Millisecond)
			ada.has(t, "bob away at lunch")
		}},
		{"goes back behind another that has an end", func(t *testing.T, _ *run, bob *presence.Session, ada *diary) {
			bob.SetStatus(presence.Busy, "first", in(10))
			time.Sleep(time.Second)
			bob.SetStatus(presence.Busy, "second", in(20))
			time.Sleep(15 * time.Second)
			ada.has(t, "bob busy first", "bob busy second")
			time.Sleep(10 * time.Second)
			ada.has(t, "bob available")
		}},
		{"ends while the device is away, and is not there when it is back", func(t *testing.T, r *run, bob *presence.Session, ada *diary) {
			bob.SetStatus(presence.Busy, "soon over", in(4))
			time.Sleep(time.Second)
			bob.End(presence.Reset, time.Now())
			time.Sleep(4 * time.Second)
			ada.has(t, "bob busy soon over", "bob available")
			r.enter("bob", presence.Hello{Device: "b", Extended: true})
			time.Sleep(time.Minute)
			ada.has(t)
		}},
		{"lasts over a broken connection, said again or not", func(t *testing.T, r *run, bob *presence.Session, ada *diary) {
			end := in(60)
			bob.SetStatus(presence.Away, "", time.Time{})
			bob.SetStatus(presence.Busy, "in a meeting", end)
			time.Sleep(time.Second)
			bob.End(presence.Reset, time.Now())
			time.Sleep(time.Second)
			again, _ := r.enter("bob", presence.Hello{Device: "b", Extended: true, Status: presence.Busy, Text: "in a meeting", Until: end})
			time.Sleep(time.Second)
			again.End(presence.Reset, time.Now())
			time.Sleep(time.Second)
			r.enter("bob", presence.Hello{Device: "b"})
			ada.has(t, "bob away", "bob busy in a meeting")
			time.Sleep(time.Minute)
			ada.has(t, "bob away")
		}},
		{"is there from the first event on", func(t *testing.T, r *run, bob *presence.Session, ada *diary) {
			bob.End(presence.Closed, time.Now())
			time.Sleep(time.Second)
			r.enter("bob", presence.Hello{Device: "b", Extended: true, Status: presence.Busy, Text: "in a meeting", Until: in(10)})
			ada.has(t, "bob offline", "bob busy in a meeting")
			time.Sleep(20 * time.Second)
			ada.has(t, "bob available")
		}},
		{"lasts while nobody has noticed that the connection before is dead", func(t *testing.T, r *run, bob *presence.Session, ada *diary) {
			bob.SetStatus(presence.Busy, "in a meeting", time.Time{})
			time.Sleep(time.Second)
			ada.has(t, "bob busy in a meeting")
			heard := time.Now()
			time.Sleep(5 * time.Second)
			r.enter("bob", presence.Hello{Device: "b", Extended: true})
			time.Sleep(15 * time.Second)
			bob.End(presence.Silent, heard)
			time.Sleep(time.Minute)
			ada.has(t)
		}},
		{"is not outvoted by that of its own dead connection", func(t *testing.T, r *run, bob *presence.Session, ada *diary) {
			bob.SetStatus(presence.Busy, "", time.Time{})
			time.Sleep(time.Second)
			r.enter("bob", presence.Hello{Device: "b", Extended: true, Status: presence.Away})
			time.Sleep(time.Second)
			ada.has(t, "bob busy", "bob away")
		}},
		{"goes back to what comes with it, after everything was forgotten", func(t *testing.T, r *run, bob *presence.Session, ada *diary) {
			end := in(300)
			bob.SetStatus(presence.Invisible, "", time.Time{})
			bob.SetStatus(presence.Busy, "", end)
			time.Sleep(time.Second)
			bob.End(presence.Reset, time.Now())
			time.Sleep(time.Minute)
			ada.take()
			r.enter("bob", presence.Hello{Device: "b", Extended: true, Status: presence.Busy, Until: end, Then: presence.Invisible})
			time.Sleep(10 * time.Minute)
			ada.has(t, "bob busy", "bob offline")
		}},
		{"hides for a time", func(t *testing.T, _ *run, bob *presence.Session, ada *diary) {
			bob.SetStatus(presence.Invisible, "", in(10))
			time.Sleep(20 * time.Second)
			ada.has(t, "bob offline", "bob available")
		}},
		{"has ended when it is set", func(t *testing.T, _ *run, bob *presence.Session, ada *diary) {
			bob.SetStatus(presence.Busy, "yesterday", in(-10))
			time.Sleep(time.Second)
			ada.has(t)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRun(t, 1)
				_, ada := r.enter("ada", presence.Hello{Extended: true})
				_, cy := r.enter("cy", presence.Hello{})
				bob, _ := r.enter("bob", presence.Hello{Device: "b", Extended: true})
				time.Sleep(time.Second)
				ada.has(t, "cy available", "bob available")
				cy.take()
				test.play(t, r, bob, ada)
				lines := cy.take()
				for i, heard := range lines { // who knows only two states hears them in turns
					if want := []string{"bob offline", "bob available"}[i%2]; !strings.HasPrefix(heard, want) &&
						(i%2 == 0 || heard == "bob offline") {
						t.Errorf("who knows only who is online heard %q", lines)
					}
				}
			})
		})
	}
}

// TestNothingNewIsNotTold changes what others may not see.
func TestNothingNewIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		_, ada := r.enter("ada", presence.Hello{Extended: true})
		bob, _ := r.enter("bob", presence.Hello{Device: "b"})
		time.Sleep(time.Second)
		ada.has(t, "bob available")
		secret := json.RawMessage(`{"@private":{"email":"bob@example.com"}}`)
		r.do(r.dir.UpdateUser(t.Context(), r.caller, "bob", directory.UserPatch{Metadata: &secret}))
		time.Sleep(time.Second)
		bob.SetStatus(presence.Available, "", time.Time{})
		time.Sleep(time.Second)
		ada.has(t)
	})
}

// TestClockJumps sets the time of day forward and back by hours, as machines do that find out what time it is.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		_, ada := r.enter("ada", presence.Hello{})
		bob, _ := r.enter("bob", presence.Hello{Device: "b"})
		cy, _ := r.enter("cy", presence.Hello{Device: "c", Status: presence.Busy, Until: time.Now().Add(time.Minute)})
		ada.has(t, "bob available", "cy busy")
		for _, jump := range []time.Duration{3 * time.Hour, -5 * time.Hour, 2 * time.Hour} {
			bob.End(presence.Reset, time.Now())
			r.skew.Add(int64(jump))
			time.Sleep(4 * time.Second)
			bob, _ = r.enter("bob", presence.Hello{Device: "b"})
			time.Sleep(time.Minute)
			ada.has(t)
		}
		cy.End(presence.Closed, time.Now())
		ada.has(t, "cy offline")
	})
}

// TestErasedUserLeavesNothing erases somebody who is online, and makes the uid again at once.
func TestErasedUserLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		time.Sleep(100 * time.Second)
		r.do(r.dir.AddFriends(t.Context(), r.caller, "cy", []string{"bob"}))
		cy := &diary{}
		session, err := r.presence.Open(t.Context(), presence.Hello{
			App: r.caller.App, UID: "cy", Token: r.tokens["cy"], Subscription: presence.Subscription{Scope: presence.Friends},
		}, cy)
		r.do(session, err)
		r.enter("bob", presence.Hello{Device: "b"})
		time.Sleep(10 * time.Second)
		cy.has(t, "bob available")
		erased, err := r.dir.EraseUser(t.Context(), r.caller, "bob")
		if r.do(erased, err); erased.Sockets != 1 {
			t.Errorf("%d sockets were closed", erased.Sockets)
		}
		r.do(r.dir.CreateUser(t.Context(), r.caller, directory.NewUser{UID: "bob", Name: "Another Bob"}))
		r.mint("bob")
		time.Sleep(10 * time.Second)
		cy.has(t, "bob offline")
		user, _, err := r.dir.ActiveUser(t.Context(), r.caller.App, "bob")
		if r.do(user, err); user.LastActiveAt != 0 {
			t.Errorf("who has the uid now was last active at %d", user.LastActiveAt)
		}
		if online, at := r.dir.PresenceOf(r.caller, "bob"); online || at != 0 {
			t.Errorf("who has the uid now is shown as %v, last active at %d", online, at)
		}
		timeline, err := r.dir.Timeline(t.Context(), r.caller, "bob")
		if r.do(timeline, err); len(timeline) > 0 {
			t.Errorf("who has the uid now has the timeline %v", timeline)
		}
		r.enter("bob", presence.Hello{Device: "b"})
		time.Sleep(time.Second)
		cy.has(t)
		r.do(r.dir.AddFriends(t.Context(), r.caller, "cy", []string{"bob"}))
		cy.has(t, "bob available")
	})
}

// TestRestart starts presence where three were online before. Bob comes back as he was, cy as busy, dan not at all.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		r.restart("bob", "cy", "dan")
		watch := func(from *presence.Position) (next func(want ...string), present []string) {
			stream, people, _, complete, err := r.presence.Watch(t.Context(), r.caller.App, from)
			r.do(stream, err)
			for _, standing := range people {
				present = append(present, line(standing.UID, standing.Status, standing.Text))
			}
			if slices.Sort(present); !complete {
				t.Error("the snapshot is not complete")
			}
			return func(want ...string) {
				t.Helper()
				synctest.Wait()
				events, _ := stream.Take()
				var heard []string
				for _, event := range events {
					heard = append(heard, line(event.User.UID, event.True, event.Text))
				}
				if !slices.Equal(heard, want) {
					t.Errorf("the stream says %q, want %q", heard, want)
				}
			}, present
		}
		goesOn, present := watch(&presence.Position{Epoch: "of before", Sequence: 7})
		if want := []string{"bob available", "cy available", "dan available"}; !slices.Equal(present, want) {
			t.Errorf("a stream that goes on begins with %q, want %q", present, want)
		}
		begins, present := watch(nil)
		if len(present) > 0 {
			t.Errorf("a stream that begins anew begins with %q", present)
		}
		_, stayed := r.enter("ada", presence.Hello{})
		_, asked := r.enter("eve", presence.Hello{Snapshot: true, Extended: true})
		_, reads := r.enter("flo", presence.Hello{})
		r.presence.NoteReader(r.caller.App, "flo")
		goesOn("ada available", "eve available", "flo available")
		begins("ada available", "eve available", "flo available")
		time.Sleep(time.Second)
		if want := []string{"ada available"}; !slices.Equal(asked.present, want) {
			t.Errorf("who asks anew is shown %q, want %q", asked.present, want)
		}
		stayed.has(t, "eve available", "flo available")
		asked.has(t, "flo available")
		reads.has(t)

		r.enter("bob", presence.Hello{})
		goesOn()
		begins("bob available")
		stayed.has(t)
		asked.has(t, "bob available")
		reads.has(t, "bob available")

		r.enter("cy", presence.Hello{Status: presence.Busy, Text: "late", Extended: true})
		goesOn("cy busy late")
		begins("cy busy late")
		stayed.has(t)
		asked.has(t, "cy busy late")
		reads.has(t, "cy busy late")

		time.Sleep(time.Minute)
		goesOn("dan offline")
		begins()
		stayed.has(t, "dan offline")
		asked.has(t)
	})
}

// TestRestartWithNobody starts presence where bob was online before, and only an operator looks.
func TestRestartWithNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		r.restart("bob")
		stream, people, _, _, err := r.presence.Watch(t.Context(), r.caller.App, &presence.Position{Epoch: "of before", Sequence: 1})
		if r.do(stream, err); len(people) != 1 {
			t.Fatalf("who goes on is shown %v", people)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if events, _ := stream.Take(); len(events) != 1 || events[0].True != presence.Offline {
			t.Errorf("told of %v", events)
		}
		if wrong := r.counts.wrong.Load(); wrong != 0 {
			t.Errorf("the checker has found %d", wrong)
		}
	})
}

// TestRestartIsForgotten lets everybody come back who was online before.
func TestRestartIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		r.restart(allUIDs...)
		for _, uid := range allUIDs {
			r.enter(uid, presence.Hello{Snapshot: true})
		}
		time.Sleep(time.Hour)
		if kept := r.presence.InformedEntries(); kept > 0 {
			t.Errorf("an hour later it is still remembered who was told: %d times", kept)
		}
	})
}

// restart begins presence anew, where users were online before.
func (r *run) restart(uids ...directory.UID) {
	r.Helper()
	were := map[directory.AppID][]directory.User{}
	for _, uid := range uids {
		user, _, err := r.dir.ActiveUser(r.Context(), r.caller.App, uid)
		r.do(user, err)
		were[r.caller.App] = append(were[r.caller.App], user)
	}
	r.presence.Close()
	r.presence = presence.New(presence.Config{Directory: r.dir, Returning: were, Observer: r.counts})
	r.dir.UseSessions(r.presence)
}

// TestErasedWhileOpening erases somebody while a friend opens a session that has read of the friendship already.
func TestErasedWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, 1)
		r.do(r.dir.AddFriends(t.Context(), r.caller, "cy", []string{"bob"}))
		r.enter("ada", presence.Hello{})
		cy := &diary{}
		hello := presence.Hello{
			App: r.caller.App, UID: "cy", Token: r.tokens["cy"], Subscription: presence.Subscription{Scope: presence.Friends},
		}
		r.do(r.presence.OpenSlowly(t.Context(), hello, cy, func() {
			r.do(r.dir.EraseUser(t.Context(), r.caller, "bob"))
			time.Sleep(time.Second)
			synctest.Wait()
		}))
		r.do(r.dir.CreateUser(t.Context(), r.caller, directory.NewUser{UID: "bob", Name: "Another Bob"}))
		r.mint("bob")
		time.Sleep(time.Second)
		r.enter("bob", presence.Hello{})
		time.Sleep(time.Second)
		cy.has(t)
	})
}

// TestPolicyReachesEverySubscription makes every kind of change to who may see whom, under every kind of subscription
// of a session that is open already, and of one that is opened right after it.
func TestPolicyReachesEverySubscription(t *testing.T) {
	role := func(id string) directory.UserPatch { return directory.UserPatch{Role: &id} }
	setRole := func(r *run, uid, id string) { r.do(r.dir.UpdateUser(r.Context(), r.caller, uid, role(id))) }
	friendsOnly := directory.RoleSettings{ListUsers: "friendsOnly"}
	permit := func(r *run, id, permission, value string) {
		outcomes, _, err := r.dir.SetPermissions(r.Context(), r.caller, id, map[string]json.RawMessage{permission: json.RawMessage(value)})
		r.do(outcomes, err)
		for _, outcome := range outcomes {
			if outcome.Err != nil {
				r.Fatal(outcome.Err)
			}
		}
	}
	restrict := func(r *run, id string, features ...string) {
		r.do(r.dir.RestrictFeatures(r.Context(), r.caller, id, features))
	}
	changes := []struct {
		name string
		make func(r *run)
	}{
		{"a new role that sees friends only, and a user who gets it", func(r *run) {
			r.do(r.dir.CreateRole(r.Context(), r.caller, directory.Role{ID: "new", Name: "New", Settings: friendsOnly}))
			setRole(r, "ada", "new")
		}},
		{"a user who gets another role", func(r *run) { setRole(r, "ada", "shy") }},
		{"somebody else who gets another role", func(r *run) { setRole(r, "bob", "star") }},
		{"a role that comes to see friends only", func(r *run) {
			r.do(r.dir.UpdateRole(r.Context(), r.caller, "default", directory.RolePatch{Settings: &friendsOnly}))
		}},
		{"a role that may not list", func(r *run) { permit(r, "default", "listUsers", `"deny"`) }},
		{"a role that lists friends", func(r *run) { permit(r, "default", "listUsers.mode", `"friends"`) }},
		{"a role that sees other roles only", func(r *run) {
			permit(r, "default", "listUsers.allowedRoles", `["star"]`)
			permit(r, "default", "getUserDetails.allowedRoles", `["star"]`)
		}},
		{"a role that gets details of friends", func(r *run) {
			permit(r, "default", "listUsers", `"deny"`)
			permit(r, "default", "getUserDetails.mode", `"friends"`)
		}},
		{"a permission that is taken back", func(r *run) {
			permit(r, "default", "listUsers.mode", `"friends"`)
			r.do(r.dir.DeletePermission(r.Context(), r.caller, "default", "listUsers.mode"))
		}},
		{"features that are restricted", func(r *run) { restrict(r, "default", "listUsers", "getUser") }},
		{"features that are restricted, and allowed again", func(r *run) {
			restrict(r, "default", "listUsers", "getUser")
			r.do(nil, r.dir.AllowFeatures(r.Context(), r.caller, "default", nil, true))
		}},
		{"a role that is deleted", func(r *run) {
			setRole(r, "ada", "shy")
			r.do(nil, r.dir.DeleteRole(r.Context(), r.caller, "shy"))
		}},
		{"a block", func(r *run) { r.do(r.dir.BlockUsers(r.Context(), r.caller, r.policy(), "bob", []string{"ada"})) }},
		{"a block that is taken back", func(r *run) {
			r.do(r.dir.BlockUsers(r.Context(), r.caller, r.policy(), "ada", []string{"bob"}))
			r.do(r.dir.UnblockUsers(r.Context(), r.caller, r.policy(), "ada", []string{"bob"}))
		}},
		{"a friendship", func(r *run) {
			permit(r, "default", "listUsers.mode", `"friends"`)
			r.do(r.dir.AddFriends(r.Context(), r.caller, "ada", []string{"bob"}))
		}},
		{"a friendship that ends", func(r *run) {
			permit(r, "default", "listUsers.mode", `"friends"`)
			r.do(nil, r.dir.RemoveFriends(r.Context(), r.caller, "ada", []string{"cy"}))
		}},
	}
	for _, change := range changes {
		for _, scope := range []presence.Subscription{
			{Scope: presence.AllUsers},
			{Scope: presence.Friends},
			{Scope: presence.UsersOfRoles, Roles: []string{"default", "star"}},
			{Scope: presence.TheseUsers, UIDs: []directory.UID{"bob", "cy", "dan"}},
		} {
			t.Run(fmt.Sprintf("%s/%d", change.name, scope.Scope), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRun(t, 1)
					r.do(r.dir.AddFriends(t.Context(), r.caller, "ada", []string{"cy"}))
					r.do(r.dir.UpdateUser(t.Context(), r.caller, "dan", role("star")))
					for _, uid := range []directory.UID{"bob", "cy", "dan"} {
						r.join(uid, "phone", available(), presence.Subscription{})
					}
					r.join("ada", "phone", available(), scope)
					time.Sleep(time.Second)
					synctest.Wait()
					r.compare("before")
					r.unsettle()
					change.make(r)
					r.join("ada", "laptop", available(), scope)
					time.Sleep(time.Second)
					synctest.Wait()
					r.compare(change.name)
				})
			})
		}
	}
}

func (r *run) policy() *directory.Policy {
	policy, err := r.dir.Policy(r.Context(), r.caller.App)
	r.do(policy, err)
	return policy
}
