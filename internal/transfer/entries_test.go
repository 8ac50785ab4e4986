package transfer_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/transfer"
)

// read reads a file, and returns a line for each entry: the user as JSON, or why there is none. The last line is the
// error that ended it.
func read(t *testing.T, file transfer.File) (lines []string) {
	t.Helper()
	number := 0
	for entry, err := range file.Entries() {
		if err != nil {
			lines = append(lines, "! "+err.Error())
			continue
		}
		if number++; entry.Number != number {
			t.Errorf("entry %d has the number %d", number, entry.Number)
		}
		switch {
		case entry.Err != nil:
			lines = append(lines, "- "+entry.Err.Error())
		case entry.Content.User != nil && entry.Content.Type == "user":
			lines = append(lines, jsonOf(t, entry.Content.User))
		default:
			lines = append(lines, jsonOf(t, entry.Content))
		}
	}
	return lines
}

func jsonOf(t *testing.T, value any) string {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text.String())
}

// TestEntries reads files as real systems and real people make them.
func TestEntries(t *testing.T) {
	t.Parallel()
	ada := `{"uid":"ada","name":"Ada"}`
	for _, c := range []struct {
		name string
		file transfer.File
		text string
		want []string
	}{
		{"objects on lines", ndjson, ada + "\n\n  \r\n" + `{"uid":"bob","metadata":{"id":1546130668394913822,"x":"<&>"},"tags":["a"]}`, []string{
			ada, `{"uid":"bob","metadata":{"id":1546130668394913822,"x":"<&>"},"tags":["a"]}`,
		}},
		{"lines that end with a carriage return", ndjson, ada + "\r" + `{"uid":"bob"}` + "\r", []string{ada, `{"uid":"bob"}`}},
		{"a byte order mark", ndjson, "\ufeff" + ada, []string{ada}},
		{"bytes that are not UTF-8", ndjson, ada + "\n{\"uid\":\"jos\xe9\"}\n" + ada, []string{
			ada, `- line 2, column 12: the byte 0xE9 is not UTF-8: mend it, or give --encoding, such as windows-1252, if the whole file is in another encoding`, ada,
		}},
		{"a line that is no JSON", ndjson, "{\"uid\":\"ada\",\n" + ada, []string{
			`- line 1, column 14: not a JSON object: it ends too early`, ada,
		}},
		{"something behind the object", ndjson, ada + " x", []string{`- line 1, column 27: there is something behind the JSON object`}},
		{"a list on a line", ndjson, `[1]`, []string{`- line 1, column 1: not a JSON object: it is a list`}},
		{"a member twice", ndjson, `{"uid":"a","uid":"b"}`, []string{`- line 1, column 12: not a JSON object: the member "uid" is there twice`}},
		{"a member that users do not have", ndjson, `{"uid":"a","email":"a@x"}`, []string{
			`- line 1, column 20: email: users have no such field; --ignore-unknown leaves such members out`,
		}},
		{"the same, ignored", transfer.File{Format: transfer.NDJSON, IgnoreUnknown: true}, `{"uid":"a","email":"a@x","type":"human"}`, []string{`{"uid":"a"}`}},
		{"a user as a server shows it", ndjson, `{"uid":"a","name":"A","status":"offline","hasBlockedMe":false,"conversationId":"x"}`, []string{`{"uid":"a","name":"A"}`}},
		{"numbers for texts, and nulls", ndjson, `{"uid":17,"name":"A","avatar":null,"role":null,"tags":null,"metadata":null,"createdAt":null}` + "\n" + `{"uid":"a","name":17}`, []string{
			`{"uid":"17","name":"A","avatar":"","metadata":null,"tags":[]}`, `- line 2, column 19: name: it must be a text, and is a number`,
		}},
		{"no uid", ndjson, `{"name":"A"}`, []string{`- line 1, column 1: the user has no uid`}},
		{"times", ndjson, `{"uid":"a","createdAt":1700000000.0,"updatedAt":1700000000123,"lastActiveAt":"2023-11-14T22:13:20.5Z","deactivatedAt":"1700000000"}`, []string{
			`{"uid":"a","createdAt":1700000000,"updatedAt":1700000000,"lastActiveAt":1700000000,"deactivatedAt":1700000000}`,
		}},
		{"no time", ndjson, `{"uid":"a","createdAt":"soon"}`, []string{
			`- line 1, column 24: createdAt: "soon" is not a time: it may be Unix seconds or milliseconds, or a date such as 2026-01-31T08:00:00Z`,
		}},
		{"an empty file", ndjson, "", []string{"! the file is empty: there is nothing to import in it"}},
		{"an export", ndjson, `{"type":"role","role":{"role":"vip","name":"VIP"}}` + "\n" + `{"type":"user","user":{"uid":"a","name":"A"}}` + "\n" +
			`{"type":"block","relation":{"uid":"a","other":"b","at":5}}` + "\n" + `{"type":"end","lines":3}`, []string{
			`{"type":"role","role":{"role":"vip","name":"VIP","createdAt":0}}`,
			`{"uid":"a","name":"A","avatar":"","link":"","role":"default","statusMessage":"","metadata":null,"tags":[],"updatedAt":0,"lastActiveAt":0,"deactivatedAt":0}`,
			`{"type":"block","relation":{"type":"block","uid":"a","other":"b","at":5}}`,
		}},
		{"two exports, one behind the other", ndjson, strings.Repeat(`{"type":"block","relation":{"uid":"a","other":"b"}}`+"\n"+`{"type":"end","lines":1}`+"\n", 2), []string{
			`{"type":"block","relation":{"type":"block","uid":"a","other":"b"}}`, `{"type":"block","relation":{"type":"block","uid":"a","other":"b"}}`,
		}},
		{"an export without its end", ndjson, `{"type":"user","user":{"uid":"a","name":"A","avatar":"x","link":"x","role":"r","statusMessage":"s","metadata":{},"tags":["t"],"updatedAt":1,"lastActiveAt":1,"deactivatedAt":1}}`, []string{
			`{"uid":"a","name":"A","avatar":"x","link":"x","role":"r","statusMessage":"s","metadata":{},"tags":["t"],"updatedAt":1,"lastActiveAt":1,"deactivatedAt":1}`,
			"! the export ends behind entry 1 without its last line: it was cut off",
		}},
		{"an export that lacks lines", ndjson, `{"type":"end","lines":3}`, []string{`! line 1, column 1: the export says that it has 3 lines, and 0 are here`}},
		{"lines of an export that are none", ndjson, `{"type":"user"}` + "\n" + `{"type":"group"}` + "\n" + `{"type":"user","user":{"uid":"a","age":7}}` + "\n" + `{"type":"end","lines":3}`, []string{
			`- line 1, column 1: a line of type user must have a user`, `- line 2, column 1: lines of type "group" are not known`,
			`- line 3, column 1: not a line of an export: /user/age is not known`,
		}},

		{"CSV", csv, "uid,name,tags,metadata.city,createdAt\nada,\"Lovelace, \"\"Ada\"\"\",\"a, b\",Zürich,1600000000\n\nbob,,,,\n", []string{
			`{"uid":"ada","name":"Lovelace, \"Ada\"","tags":["a","b"],"mergeMetadata":{"city":"Zürich"},"createdAt":1600000000}`, `{"uid":"bob"}`,
		}},
		{"CSV with semicolons, and headings in any case", csv, "UID;Name;StatusMessage;METADATA.Age\nada;Ada;hi;7\n", []string{
			`{"uid":"ada","name":"Ada","statusMessage":"hi","mergeMetadata":{"Age":"7"}}`,
		}},
		{"CSV with tabs", csv, "uid\tname\nada\tAda L.\n", []string{`{"uid":"ada","name":"Ada L."}`}},
		{"CSV that says what separates", csv, "sep=|\r\nuid|name\r\nada|Ada, L.\r\n", []string{`{"uid":"ada","name":"Ada, L."}`}},
		{"CSV from an old Macintosh", csv, "uid,name\rada,Ada\rbob,Bob", []string{`{"uid":"ada","name":"Ada"}`, `{"uid":"bob","name":"Bob"}`}},
		{"CSV with a mark and a quoted heading", csv, "\ufeff\"uid\",\"name\"\r\n\"ada\",\"Ada\"\r\n", []string{`{"uid":"ada","name":"Ada"}`}},
		{"CSV with lines within a cell", csv, "uid,name,statusMessage\nada,Ada,\"a\r\nb\"\nbob,Bob,c", []string{
			`{"uid":"ada","name":"Ada","statusMessage":"a\r\nb"}`, `{"uid":"bob","name":"Bob","statusMessage":"c"}`,
		}},
		{"CSV in Latin-1", csv, "uid,name\njose,Jos\xe9\nada,Ada\n", []string{
			`- line 2, column 9: the byte 0xE9 is not UTF-8: mend it, or give --encoding, such as windows-1252, if the whole file is in another encoding`, `{"uid":"ada","name":"Ada"}`,
		}},
		{"CSV in Latin-1, said", transfer.File{Format: transfer.CSV, Encoding: transfer.Windows1252}, "uid,name\njose,Jos\xe9 \x80\n", []string{`{"uid":"jose","name":"José €"}`}},
		{"CSV with a quote that is not closed", csv, "uid,name\nada,\"Ada\nbob,Bob\n", []string{`- line 2, column 5: the quote is not closed`, `{"uid":"bob","name":"Bob"}`}},
		{"CSV with quotes where none may be", csv, "uid,name\nada,Ada \"L\"\nbob,\"B\"ob\ncy,Cy\n", []string{
			`- line 2, column 9: a quote is within a cell that does not begin with one: put the cell between quotes, and write this one twice`,
			`- line 3, column 8: there is something behind a quote that closes a cell: a quote within quotes is written twice`, `{"uid":"cy","name":"Cy"}`,
		}},
		{"CSV with too many cells", csv, "uid,name\nada,Ada,x\nbob,Bob", []string{`- line 2, column 1: the row has 3 cells, and the heading 2`, `{"uid":"bob","name":"Bob"}`}},
		{"CSV with another column", csv, "uid,email\nada,x", []string{
			`! line 1, column 1: the column "email" is not a field of users: there are uid, name, avatar, link, role, statusMessage, tags, metadata, createdAt, updatedAt, lastActiveAt, deactivatedAt and metadata.<member>; --ignore-unknown leaves such columns out`,
		}},
		{"CSV with another column, ignored", transfer.File{Format: transfer.CSV, IgnoreUnknown: true}, "uid,email\nada,x", []string{`{"uid":"ada"}`}},
		{"CSV with a column twice", csv, "uid,UID\nada,x", []string{`! line 1, column 1: the column "uid" is there twice`}},
		{"CSV with metadata beside members", csv, "uid,metadata,metadata.city\na,\"{\"\"id\"\":1546130668394913822}\",Oslo\nb,null,Oslo\nc,{,Oslo\n", []string{
			`{"uid":"a","metadata":{"id":1546130668394913822},"mergeMetadata":{"city":"Oslo"}}`,
			`- line 3, column 1: column metadata: it must be a JSON object`, `- line 4, column 1: column metadata: it must be a JSON object`,
		}},
		{"CSV with tags in many forms", csv, "uid;tags\na;[\"vip\",\"be;ta\"]\nb;\"{vip,\"\"a, b\"\",NULL}\"\nc;\"vip; eu\"\nd;vip, eu\ne;\"[x\"\n", []string{
			`- line 2, column 4: a quote is within a cell that does not begin with one: put the cell between quotes, and write this one twice`,
			`{"uid":"b","tags":["vip","a, b"]}`, `{"uid":"c","tags":["vip","eu"]}`, `{"uid":"d","tags":["vip","eu"]}`,
			`- line 6, column 1: column tags: it begins with [ and is not a JSON list of texts`,
		}},
		{"CSV with tags as JSON", csv, "uid,tags\na,\"[\"\"vip\"\",\"\"be,ta\"\"]\"\n", []string{`{"uid":"a","tags":["vip","be,ta"]}`}},
		{"CSV with a heading alone", csv, "uid,name\n", nil},
		{"an empty CSV", csv, "", []string{"! the file is empty: there is nothing to import in it"}},

		{"users by their uid", dataImport, `{"version":1,"users":{"dan":{"name":"Dan"},"EVE":{"uid":"eve","name":"Eve","createdAt":"1577836800"}}}`, []string{
			`{"uid":"dan","name":"Dan"}`, `{"uid":"eve","name":"Eve","createdAt":1577836800}`,
		}},
		{"users in a list", dataImport, "\ufeff [ " + ada + " , {\"uid\":\"bob\"} ] \n", []string{ada, `{"uid":"bob"}`}},
		{"users in a list with a name", dataImport, `{"users":[` + ada + `]}`, []string{ada}},
		{"nobody", dataImport, `{"users":[]}`, nil},
		{"nobody, by uid", dataImport, `{"users":{}}`, nil},
		{"users under another's name", dataImport, `{"users":{"dan":{"uid":"eve"},"bob":{}}}`, []string{
			`- line 1, column 17: the user stands under the name "dan" and has the uid "eve"`, `{"uid":"bob"}`,
		}},
		{"a user that is no JSON among others", dataImport, `[` + ada + `,{"uid":tru},17,"x",` + ada + `]`, []string{
			ada, `- line 1, column 39: not a JSON object: invalid character ` + "'}'" + ` in literal true (expecting 'e')`,
			`- line 1, column 41: not a JSON object: it is a number`, `- line 1, column 44: not a JSON object: it is a text`, ada,
		}},
		{"a list that is cut off", dataImport, `[{"uid":"t3","name":"T"},{"uid":"t4"`, []string{
			`{"uid":"t3","name":"T"}`, `! line 1, column 37: the file ends within the users, behind entry 1: it was cut off`,
		}},
		{"a list that is not closed", dataImport, `[{"uid":"t3","name":"T"}`, []string{
			`{"uid":"t3","name":"T"}`, `! line 1, column 25: the file ends within the users, behind entry 1: it was cut off`,
		}},
		{"an object that is not closed", dataImport, `{"users":{"a":{"name":"A"}}`, []string{
			`{"uid":"a","name":"A"}`, `! line 1, column 28: the file ends within the users, behind entry 1: it was cut off`,
		}},
		{"rubbish behind the list", dataImport, `[` + ada + `] x`, []string{ada, `! line 1, column 30: there is something behind the end of the users: it was not imported`}},
		{"no comma", dataImport, `[` + ada + ` ` + ada + `]`, []string{ada, `! line 1, column 29: a comma or ']' must be here, and '{' is: nothing behind it was imported`}},
		{"a comma too many", dataImport, `[` + ada + `,]`, []string{ada, `! line 1, column 30: a user must follow a comma, and the list ends`}},
		{"users that are none", dataImport, `{"users":"x"}`, []string{`! line 1, column 10: the "users" must be a list or an object of users, and begins with '"'`}},
		{"no users", dataImport, `{"version":1}`, []string{`! the file has no "users", and is no list of users`}},
		{"groups beside users", dataImport, `{"groups":[{}],"users":[` + ada + `]}`, []string{`- line 1, column 2: "groups" is not imported: only "users" is`, ada}},
		{"a text", dataImport, `"x"`, []string{`! line 1, column 1: the file must hold a JSON object or a list, and begins with '"'`}},
		{"an empty file for JSON", dataImport, " \n", []string{"! the file is empty: there is nothing to import in it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.file.Reader = strings.NewReader(c.text)
			if diff := cmp.Diff(c.want, read(t, c.file)); diff != "" {
				t.Error(diff)
			}
			c.file.Reader = &oneByOne{strings.NewReader(c.text)}
			if diff := cmp.Diff(c.want, read(t, c.file)); diff != "" {
				t.Error("byte by byte: " + diff)
			}
		})
	}
}

// oneByOne hands a text out byte by byte.
type oneByOne struct{ r *strings.Reader }

func (o *oneByOne) Read(into []byte) (int, error) { return o.r.Read(into[:min(1, len(into))]) }

var (
	ndjson     = transfer.File{Format: transfer.NDJSON}
	csv        = transfer.File{Format: transfer.CSV}
	dataImport = transfer.File{Format: transfer.DataImport}
)

// TestEntriesInOtherEncodings reads the same users in every encoding, packed and not.
func TestEntriesInOtherEncodings(t *testing.T) {
	t.Parallel()
	const text = "uid,name\njosé😀,\"Łukasz, Жанна 太郎\"\n"
	want := []string{`{"uid":"josé😀","name":"Łukasz, Жанна 太郎"}`}
	sixteen := func(mark bool, bigEndian bool) string {
		var out []byte
		units := utf16.Encode([]rune(text))
		if mark {
			units = append([]uint16{0xfeff}, units...)
		}
		for _, unit := range units {
			if bigEndian {
				out = append(out, byte(unit>>8), byte(unit))
			} else {
				out = append(out, byte(unit), byte(unit>>8))
			}
		}
		return string(out)
	}
	packed := func(text string) string {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	for name, c := range map[string]struct {
		encoding transfer.Encoding
		text     string
		want     []string
	}{
		"UTF-8":                       {"", text, want},
		"UTF-8, packed":               {"", packed(text), want},
		"UTF-16 with a mark":          {"", sixteen(true, false), want},
		"UTF-16 with a mark, packed":  {"", packed(sixteen(true, false)), want},
		"UTF-16, big end first":       {"", sixteen(true, true), want},
		"UTF-16 without a mark":       {transfer.UTF16LE, sixteen(false, false), want},
		"UTF-16, big, without a mark": {transfer.UTF16BE, sixteen(false, true), want},
		"UTF-16 that is not said": {"", sixteen(false, false), []string{
			"! the file holds zeros, as UTF-16 has them: give --encoding utf-16le or utf-16be if it is that",
		}},
		"half a character": {transfer.UTF16BE, sixteen(false, true) + "\xd8\x3d\x00a", []string{
			want[0], "- line 3, column 1: the byte 0xED is not UTF-8: mend it, or give --encoding, such as windows-1252, if the whole file is in another encoding",
		}},
		"packed and cut off": {"", packed(text + strings.Repeat("x", 100))[:60], []string{
			want[0], "! read the file behind entry 1: unexpected EOF",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := read(t, transfer.File{Format: transfer.CSV, Encoding: c.encoding, Reader: strings.NewReader(c.text)})
			if name == "packed and cut off" { // how much of it can be read is gzip's matter
				got, c.want = got[len(got)-1:], c.want[1:]
				got[0] = got[0][:5] + got[0][strings.Index(got[0], "file"):]
				if !strings.Contains(got[0], "unexpected EOF") {
					t.Error(got)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLongEntriesAreRefusedAlone: what is larger than an entry may be does not stop those behind it.
func TestLongEntriesAreRefusedAlone(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5<<20)
	for name, c := range map[string]struct {
		file       transfer.File
		text, want string
	}{
		"ndjson":               {ndjson, fmt.Sprintf("{\"uid\":\"a\",\"name\":%q}\n{\"uid\":\"b\"}\n", long), "the line has more than 4194304 bytes"},
		"json":                 {dataImport, fmt.Sprintf(`[{"uid":"a","name":%q},{"uid":"b"}]`, long), "the user has more than 4194304 bytes"},
		"csv":                  {csv, "uid,name\na," + long + "\nb,\n", "the row has more than 4194304 bytes, or a quote is not closed"},
		"csv, open quote":      {csv, "uid,name\na,\"x\nb,\n" + strings.Repeat("c,"+strings.Repeat("y", 2000)+"\n", 2500), "the row has more than 4194304 bytes, or a quote is not closed"},
		"ndjson, not the last": {ndjson, long + "\n{\"uid\":\"b\"}", "the line has more than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.file.Reader = strings.NewReader(c.text)
			got := read(t, c.file)
			if len(got) < 2 || !strings.HasSuffix(got[0], c.want) || got[1] != `{"uid":"b"}` {
				t.Errorf("%d entries, the first %.200s", len(got), got)
			}
		})
	}
}

func now() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// TestMaps reads the files of other systems.
func TestMaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ mapping, file string }{
		{"firebase", "firebase.json"},
		{"auth0", "auth0.ndjson"},
		{"auth0", "auth0.csv"},
		{"supabase", "supabase.csv"},
		{"stream", "stream.ndjson"},
		{"sendbird", "sendbird.json"},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			chosen, err := transfer.MapNamed(c.mapping, now)
			if err != nil {
				t.Fatal(err)
			}
			format, err := transfer.FormatOf(c.file)
			if err != nil {
				t.Fatal(err)
			}
			got := read(t, transfer.File{Format: format, Map: chosen, Reader: open(t, "testdata/"+c.file)})
			wantFile := "testdata/" + c.file + ".want"
			want := strings.Split(strings.TrimSpace(contents(t, wantFile)), "\n")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", wantFile, diff)
			}
		})
	}
	if names := transfer.MapNames(); len(names) != 5 {
		t.Errorf("there are the maps %q", names)
	}
	if _, err := transfer.MapNamed("nothing", now); err == nil || !strings.Contains(err.Error(), "firebase") {
		t.Errorf("a map that there is not: %v", err)
	}
}
