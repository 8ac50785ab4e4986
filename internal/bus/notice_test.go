package bus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// reading is an assembler and what it has told.
type reading struct {
	assembler
	counters counters
	heard    []outgoing
	misses   int
}

func newReading() *reading {
	r := &reading{}
	r.assembler = assembler{
		counters: &r.counters,
		hear:     func(subject string, message []byte) { r.heard = append(r.heard, outgoing{subject, message}) },
		missed:   func() { r.misses++ },
	}
	r.reset()
	return r
}

func packed(limit int, asText bool, messages ...outgoing) [][]byte {
	p := packer{sender: senderID{1}, counters: &counters{}, limit: limit, asText: asText}
	for _, m := range messages {
		p.add(m)
	}
	return p.take()
}

func TestNoticesCarryMessages(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{2})
	for _, asText := range []bool{false, true} {
		for _, limit := range []int{1024, maxPayload, natsNotice} {
			var messages []outgoing
			for n := range 60 {
				content := make([]byte, rand.IntN(3*limit/2))
				switch n % 3 {
				case 0:
					_, _ = random.Read(content)
				case 1:
					copy(content, strings.Repeat(`{"name":"Zoë"}`, len(content)/15+1))
				case 2:
					content = content[:min(len(content), 50)]
				}
				messages = append(messages, outgoing{fmt.Sprintf("subject.%d", n), content})
			}
			r := newReading()
			for _, notice := range packed(limit, asText, messages...) {
				if asText {
					text := toText(notice)
					if len(text) > limit || strings.ContainsFunc(text, func(c rune) bool { return c == 0 || c >= 0x80 }) {
						t.Fatalf("a notice became %d characters of text, or not of ASCII", len(text))
					}
					var err error
					if notice, err = fromText(text); err != nil {
						t.Fatal(err)
					}
				} else if len(notice) > limit {
					t.Fatalf("a notice has %d bytes", len(notice))
				}
				if err := r.read(notice); err != nil {
					t.Fatal(err)
				}
			}
			same := func(a, b outgoing) bool { return a.subject == b.subject && bytes.Equal(a.message, b.message) }
			if !slices.EqualFunc(r.heard, messages, same) || r.misses > 0 {
				t.Errorf("%d of %d messages came, %d were missed", len(r.heard), len(messages), r.misses)
			}
		}
	}
}

func TestTextIsDense(t *testing.T) {
	t.Parallel()
	ascii := []byte(strings.Repeat(`{"uid":"u"}`, 700))
	if got := len(toText(ascii)); got != len(ascii)+1 {
		t.Errorf("%d bytes of ASCII became %d characters", len(ascii), got)
	}
	binary := bytes.Repeat([]byte{0xff, 0, 0x80, 0x7f}, 1500)
	if got := len(toText(binary)); got != len(binary)*4/3+1 {
		t.Errorf("%d bytes became %d characters", len(binary), got)
	}
}

// TestMissingPieceDropsMessage leaves out every run of pieces: only what belongs together is put together.
func TestMissingPieceDropsMessage(t *testing.T) {
	t.Parallel()
	first, second := bytes.Repeat([]byte{'1'}, 3000), bytes.Repeat([]byte{'2'}, 3000)
	notices := packed(1024, false, outgoing{"first", first}, outgoing{"second", second}, outgoing{"third", nil})
	for out := range notices {
		for length := 1; out+length < len(notices); length++ { // the last one holds the third message
			r := newReading()
			for n, notice := range notices {
				if n >= out && n < out+length {
					continue
				}
				if err := r.read(notice); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range r.heard {
				sent := map[string][]byte{"first": first, "second": second}[m.subject]
				if !bytes.Equal(m.message, sent) {
					t.Errorf("without notices %d to %d, %s is not what was sent", out, out+length-1, m.subject)
				}
			}
			if len(r.heard) == 3 || r.heard[len(r.heard)-1].subject != "third" {
				t.Errorf("without notices %d to %d, %d messages came", out, out+length-1, len(r.heard))
			}
			if r.misses == 0 && out+length-1 != 3 && out != 0 {
				t.Errorf("without notices %d to %d, nothing was missed", out, out+length-1)
			}
			if len(r.partial) > 0 {
				t.Errorf("without notices %d to %d, something is left", out, out+length-1)
			}
		}
	}
}

func TestOwnAndForeignNoticesAreNotHeard(t *testing.T) {
	t.Parallel()
	r := newReading()
	r.self = senderID{1}
	notice := packed(1024, false, outgoing{"a", nil})[0]
	if err := r.read(notice); err != nil || len(r.heard) > 0 {
		t.Errorf("heard %d of its own messages: %v", len(r.heard), err)
	}
	notice[0]++
	if err := r.read(notice); err == nil || len(r.heard) > 0 {
		t.Error("a notice of another version was read")
	}
}

// FuzzRead reads whatever comes.
func FuzzRead(f *testing.F) {
	for _, notice := range packed(1024, true, outgoing{"a", []byte("x")}, outgoing{"b", make([]byte, 2000)}) {
		f.Add(toText(notice), toText(notice))
	}
	f.Add("", "t\x01")
	f.Fuzz(func(_ *testing.T, one, two string) {
		r := newReading()
		for _, text := range []string{one, two, one} {
			if notice, err := fromText(text); err == nil {
				_ = r.read(notice)
			}
		}
	})
}
