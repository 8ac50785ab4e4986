package gateway

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/gobwas/ws"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/socketjwt"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// sink is a link whose other side takes everything.
type sink struct{}

func (sink) Write([]byte) (bool, error) { return false, nil }
func (sink) CloseWrite()                {}
func (sink) HasUnread() bool            { return false }
func (sink) Close()                     {}

type noKeys struct{}

func (noKeys) SigningKey() (string, []byte)       { return "k", []byte("key") }
func (noKeys) VerifyingKey(string) ([]byte, bool) { return nil, false }

// FuzzReceive sends anything, cut anywhere: nothing panics, no more is kept than a message may have, and all of it is
// given back.
func FuzzReceive(f *testing.F) {
	text := func(payload string) []byte {
		return ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(payload))))
	}
	f.Add(text(`{"action":"ping","ack":"true"}`), 3)
	f.Add(text(`{"type":"auth","appId":"a","sender":"b","body":{"auth":"x.y.z","presenceSubscription":"ROLES","roles":["a"]}}`), 7)
	f.Add(append(text(`{"type":"auth","body":[]}`), text(`{"type":1}`)...), 1)
	f.Add([]byte{0x01, 0x81, 0, 0, 0, 0, '{', 0x80, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1}, 2)
	f.Add([]byte{0x88, 0x82, 1, 2, 3, 4, 0x02, 0xea}, 100)
	store, err := sqlstore.OpenSQLite(f.Context(), filepath.Join(f.TempDir(), "test.db"))
	if err != nil {
		f.Fatal(err)
	}
	d := directory.New(directory.Config{Store: store})
	g := New(Config{Directory: d, Presence: presence.New(presence.Config{Directory: d}), Signer: socketjwt.NewSigner(noKeys{})})
	f.Cleanup(func() {
		if err := errors.Join(g.Close(f.Context()), store.Close()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		s := &socket{gateway: g, link: sink{}, allowance: frameBurst}
		s.limit.Store(maxAuth)
		for len(data) > 0 {
			n := min(len(data), max(1, cut))
			s.Receive(append([]byte(nil), data[:n]...))
			data = data[n:]
		}
		if kept := len(s.inbox) + len(s.message); kept > maxAuth+64<<10 {
			t.Errorf("%d bytes are kept", kept)
		}
		s.Closed(nil)
		if left := g.gathering.Load(); left != 0 {
			t.Errorf("%d bytes are still counted", left)
		}
	})
}
