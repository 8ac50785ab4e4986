package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

func testPresence(t *testing.T, s directory.Store) {
	online := func(tx directory.Reader, limit int) []directory.UID {
		uids, err := tx.Online(app, limit)
		if err != nil {
			t.Error(err)
		}
		slices.Sort(uids)
		return uids
	}
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(
			tx.PutOnline(app, "a"), tx.PutOnline(app, "b"), tx.PutOnline(app, "b"), tx.PutOnline("other", "c"),
			tx.PutAlive(app, 10), tx.PutAlive(app, 20), tx.PutAlive("other", 30),
		)
	})
	view(t, s, func(tx directory.Reader) error {
		equal(t, online(tx, 10), []directory.UID{"a", "b"})
		equal(t, len(online(tx, 1)), 1)
		at, err := tx.Alive(app)
		equal(t, at, int64(20))
		never, errNever := tx.Alive("none")
		equal(t, never, int64(0))
		return errors.Join(err, errNever)
	})
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(tx.DeleteOnline(app, "a"), tx.DeleteOnline(app, "nobody"))
	})
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(tx.PutUser(app, directory.User{UID: "b", Name: "B", Role: "default"}), tx.DeleteUser(app, "b"))
	})
	view(t, s, func(tx directory.Reader) error {
		equal(t, len(online(tx, 10)), 0)
		return nil
	})
}

func testTransitions(t *testing.T, s directory.Store) {
	at := func(device string, at int64, status string) directory.Transition {
		return directory.Transition{Device: device, At: at, Status: status, Cause: "connected"}
	}
	timeline := func(want ...directory.Transition) {
		t.Helper()
		view(t, s, func(tx directory.Reader) error {
			got, err := tx.Transitions(app, "u")
			equal(t, got, want)
			return err
		})
	}
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(
			tx.AddTransitions(
				app, "u",
				[]directory.Transition{
					at("phone", 1, "available"), at("phone", 3, "away"), at("phone", 5, "offline"), at("web", 3, "busy"),
				},
			),
			tx.AddTransitions(app, "u", []directory.Transition{at("phone", 5, "available")}),
			tx.AddTransitions(app, "v", []directory.Transition{at("phone", 2, "available")}),
		)
	})
	timeline(at("phone", 5, "available"), at("phone", 3, "away"), at("web", 3, "busy"), at("phone", 1, "available"))
	update(t, s, func(tx directory.Writer) error { return tx.TrimTransitions(app, "u", "phone", 2, 0) })
	timeline(at("phone", 5, "available"), at("phone", 3, "away"), at("web", 3, "busy"))
	update(t, s, func(tx directory.Writer) error { return tx.TrimTransitions(app, "u", "phone", 2, 4) })
	timeline(at("phone", 5, "available"))
}
