package transfer_test

import (
	"bytes"
	stdcsv "encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/transfer"
)

// entriesOf reads a file, and checks what holds of every one: entries are counted, and each is whole or says why not.
func entriesOf(t *testing.T, format transfer.Format, text []byte) (entries []transfer.Entry, failure error) {
	t.Helper()
	file := transfer.File{Format: format, Reader: bytes.NewReader(text)}
	for entry, err := range file.Entries() {
		if failure != nil {
			t.Fatalf("something comes behind %v", failure)
		}
		if err != nil {
			failure = err
			continue
		}
		entries = append(entries, entry)
		if entry.Number != len(entries) {
			t.Fatalf("entry %d has the number %d", len(entries), entry.Number)
		}
		if entry.Err != nil {
			if !strings.Contains(entry.Err.Error(), "line ") {
				t.Fatalf("the error does not say where: %v", entry.Err)
			}
			continue
		}
		sent, err := json.Marshal(entry.Content)
		if err != nil {
			t.Fatalf("entry %d cannot be sent: %v", entry.Number, err)
		}
		if !utf8.Valid(sent) {
			t.Fatalf("entry %d is not UTF-8", entry.Number)
		}
	}
	return entries, failure
}

// FuzzNDJSON compares each line with what a decoder of JSON makes of it.
func FuzzNDJSON(f *testing.F) {
	for _, seed := range []string{
		`{"uid":"a","name":"A"}`, "{\"uid\":\"a\"}\n\n{\"uid\":\"b\",\"metadata\":{\"n\":1e400}}\r\n", `{"type":"user","user":{"uid":"a"}}`,
		"{\"uid\":\"jos\xe9\"}\n{\"uid\":\"b\"}", "\xef\xbb\xbf{\"uid\":1}", `{"uid":"a","tags":"x;y","createdAt":"2020-01-01"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.HasPrefix(text, []byte{0x1f, 0x8b}) || bytes.IndexByte(text[:min(3, len(text))], 0) >= 0 ||
			bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
			return // it is in another encoding
		}
		entries, _ := entriesOf(t, transfer.NDJSON, text)
		lines := bytes.FieldsFunc(bytes.TrimPrefix(text, []byte("\ufeff")), func(r rune) bool { return r == '\n' || r == '\r' })
		lines = deleteBlank(lines)
		if bytes.Contains(text, []byte(`"type"`)) || bytes.Contains(text, []byte(`\u`)) {
			return // an export, whose end is no entry
		}
		if len(lines) != len(entries) {
			t.Fatalf("%d entries of %d lines", len(entries), len(lines))
		}
		for i, line := range lines {
			var want api.UserRow
			decoder := json.NewDecoder(bytes.NewReader(line))
			decoder.DisallowUnknownFields()
			if entries[i].Err != nil || decoder.Decode(&want) != nil || want.Name == nil {
				continue
			}
			if got := entries[i].Content.User; got.Name == nil || *got.Name != *want.Name && utf8.Valid(line) {
				t.Fatalf("%s became %+v", line, got)
			}
		}
	})
}

func deleteBlank(lines [][]byte) (kept [][]byte) {
	for _, line := range lines {
		if len(bytes.TrimSpace(line)) > 0 {
			kept = append(kept, line)
		}
	}
	return kept
}

// FuzzCSV compares with another reader of CSV what that takes as well.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{
		"a,b\n", "\"a\",b\n\"c\"\"d\",\"e\nf\"\n", "x\r\ny\r\n", "a,\"b\n", "a,b\"c\n", "\n\n,\n", "sep=;\na;b",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, rows []byte) {
		text := append([]byte("uid,name\n"), rows...)
		entries, failure := entriesOf(t, transfer.CSV, text)
		if failure != nil {
			t.Fatalf("the file was given up: %v", failure)
		}
		if bytes.IndexByte(rows, '\r') >= 0 || !utf8.Valid(rows) {
			return // what the other reader changes
		}
		reader := stdcsv.NewReader(bytes.NewReader(rows))
		reader.FieldsPerRecord = 2
		want, err := reader.ReadAll()
		if err != nil {
			return
		}
		if len(want) != len(entries) {
			t.Fatalf("%d entries of %d rows", len(entries), len(want))
		}
		for i, record := range want {
			switch entry := entries[i]; {
			case record[0] == "":
				if entry.Err == nil {
					t.Fatalf("a user without a uid: %+v", entry)
				}
			case entry.Err != nil:
				t.Fatalf("%q: %v", record, entry.Err)
			case entry.Content.User.UID != record[0] || record[1] != "" && *entry.Content.User.Name != record[1]:
				t.Fatalf("%q became %+v", record, entry.Content.User)
			}
		}
	})
}

// FuzzJSON compares lists with what a decoder of JSON makes of them. A file that the decoder takes is read to its end.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{"uid":"a"},{"uid":"b","name":17},tru]`, `{"users":{"a":{"name":"A"}}}`, `{"users":[{"uid":"a"}],"x":[1]}`, `[{"uid":"a"}`,
		`{"users":"x"}`, `[{"uid":"]}"}] x`, "{\"users\":{\"\xff\":{}}}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			entriesOf(t, transfer.DataImport, text)
			return
		}
		entries, failure := entriesOf(t, transfer.DataImport, text)
		var list []json.RawMessage
		if json.Unmarshal(text, &list) != nil || list == nil {
			return
		}
		if failure != nil || len(entries) != len(list) {
			t.Fatalf("%d entries of %d, %v", len(entries), len(list), failure)
		}
	})
}

// FuzzMaps reads whatever there is by every map.
func FuzzMaps(f *testing.F) {
	f.Add([]byte(`{"localId":"a","user_id":"a","id":"a","customAttributes":"{}","metadata":{"a":1,"a":2},"x":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, name := range transfer.MapNames() {
			chosen, err := transfer.MapNamed(name, now)
			if err != nil {
				t.Fatal(err)
			}
			file := transfer.File{Format: transfer.NDJSON, Map: chosen, Reader: bytes.NewReader(text)}
			for entry, err := range file.Entries() {
				if err == nil && entry.Err == nil {
					if _, err := json.Marshal(entry.Content); err != nil {
						t.Fatalf("%s: entry %d cannot be sent: %v", name, entry.Number, err)
					}
				}
			}
		}
	})
}
