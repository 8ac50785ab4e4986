// Package transfer brings users and their relations into a server and out of it: it reads and writes the formats, and
// calls the server through the client library like anybody else. What it reads is imported as it came, or named with
// its place and a reason.
package transfer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/rollcall/rollcall/api"
)

// Format is how the users of an import are written down.
type Format string

// The formats of imports.
const (
	// NDJSON is a JSON object a line: a user, or a line of an export.
	NDJSON Format = "ndjson"
	// CSV has a heading that names the fields of users: see columns.
	CSV Format = "csv"
	// DataImport is the contract's data import: {"users":{"<uid>":{…}}}, or a list of users.
	DataImport Format = "json"
)

// FormatOf returns the format that a file's name tells. A name that ends with .gz tells it before that.
func FormatOf(name string) (Format, error) {
	lower := strings.TrimSuffix(strings.ToLower(name), ".gz")
	for suffix, format := range map[string]Format{
		".ndjson": NDJSON, ".jsonl": NDJSON, ".csv": CSV, ".tsv": CSV, ".json": DataImport,
	} {
		if strings.HasSuffix(lower, suffix) {
			return format, nil
		}
	}
	return "", fmt.Errorf("the name %s does not tell the format: give --format ndjson, csv or json", name)
}

// maxEntry bounds one entry, in bytes: more than the server takes.
const maxEntry = 4 << 20

// Entry is one entry of an import: a role, a user, a relation, or something that cannot be read.
type Entry struct {
	// Number counts the entries from 1.
	Number int
	// Line is that of the file on which the entry begins, from 1; zero when it is from no file.
	Line    int
	Content api.ExportLine
	// Err says why the entry cannot be read, and where. The ones behind it can.
	Err error
	// Chain identifies the text of this entry and of all before it.
	Chain [sha256.Size]byte
	// ID is the uid of a user as the source writes it.
	ID string
	// size is how many bytes the entry has in its file.
	size int
}

// File is what an import reads.
type File struct {
	Reader   io.Reader
	Format   Format
	Encoding Encoding
	// Map says where the fields of users are in the entries of another system's file. Nil is for files of our own.
	Map *Map
	// IgnoreUnknown leaves out what users do not have, instead of refusing the entry or the file.
	IgnoreUnknown bool
}

// Entries reads the entries one after another, in memory that does not grow with the file, which may be packed by gzip.
// The error is for what cannot be read at all: what was read before it holds.
func (f *File) Entries() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		text, err := decoded(f.Reader, f.Encoding)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		r := &reading{File: f, source: newSource(text), yield: yield}
		switch f.Format {
		case NDJSON:
			err = r.readNDJSON()
		case CSV:
			err = r.readCSV()
		case DataImport:
			err = r.readJSON()
		default:
			err = fmt.Errorf("there is no format %q", f.Format)
		}
		if errors.Is(err, errStopped) {
			return
		}
		if r.source.failure != nil { // which is why it ends so early
			err = fmt.Errorf("read the file behind entry %d: %w", r.count, r.source.failure)
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

var (
	errStopped = errors.New("stopped")
	errEmpty   = errors.New("the file is empty: there is nothing to import in it")
)

// reading is one pass over a file.
type reading struct {
	*File
	source *source
	yield  func(Entry, error) bool
	count  int
	chain  [sha256.Size]byte
	// id is the uid of the user that was read last as the source writes it, empty when it is the user's own.
	id string
}

// emit hands an entry out that has the given text. It fails when nobody wants more.
func (r *reading) emit(raw []byte, at place, content api.ExportLine, problem error) error {
	r.count++
	digest := sha256.New()
	digest.Write(r.chain[:])
	digest.Write(raw)
	digest.Sum(r.chain[:0])
	if problem == nil && content.User != nil && content.User.UID == "" {
		problem = at.errorf("the user has no uid")
	}
	entry := Entry{
		Number: r.count, Line: at.line, Content: content, ID: r.id, Err: problem, Chain: r.chain, size: len(raw),
	}
	if r.id = ""; entry.ID == "" && content.User != nil {
		entry.ID = content.User.UID
	}
	if !r.yield(entry, nil) {
		return errStopped
	}
	return nil
}

// readNDJSON reads an object a line. An export must be whole: it ends with a line that says so.
func (r *reading) readNDJSON() error {
	exported, ended := 0, true
	for {
		line, at, tooLong, more := r.source.nextLine()
		if !more {
			break
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var content content
		var err error
		if tooLong {
			err = at.errorf("the line has more than %d bytes", maxEntry)
		} else {
			content, err = r.decode(line, at)
		}
		if content.Type == "end" && err == nil {
			if ended = true; content.Lines != exported {
				return at.errorf("the export says that it has %d lines, and %d are here", content.Lines, exported)
			}
			exported = 0
			continue
		}
		if content.typed {
			exported, ended = exported+1, false
		} else if exported > 0 {
			exported++ // it cannot be read, and counts
		}
		if err := r.emit(line, at, content.ExportLine, err); err != nil {
			return err
		}
	}
	switch {
	case r.count == 0 && ended && r.source.empty():
		return errEmpty
	case !ended:
		return fmt.Errorf("the export ends behind entry %d without its last line: it was cut off", r.count)
	}
	return nil
}
