package transfer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rollcall/rollcall/api"
)

// valueScan finds the end of a JSON value in a text that comes piece by piece. It looks at brackets and quotes alone:
// whether the value is well-formed, others say, so that one that is not does not hide those behind it.
type valueScan struct {
	depth           int
	inText, escaped bool
	// isScalar says that it is a number or a word, which ends where something else begins.
	isScalar bool
	// looked is how far the text has been looked at.
	looked int
}

// feed looks at the text that the value begins, from where it has looked on, and returns how long the value is;
// negative while that is not known.
func (v *valueScan) feed(text []byte) int {
	for ; v.looked < len(text); v.looked++ {
		c := text[v.looked]
		switch {
		case v.escaped:
			v.escaped = false
		case v.inText && c == '\\':
			v.escaped = true
		case c == '"' && !v.isScalar:
			if v.inText = !v.inText; !v.inText && v.depth == 0 {
				return v.looked + 1
			}
		case v.inText:
		case c == '{' || c == '[':
			v.depth++
		case c == '}' || c == ']':
			if v.depth == 0 {
				return v.looked
			}
			if v.depth--; v.depth == 0 {
				return v.looked + 1
			}
		case v.depth == 0 && (c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			return v.looked
		case v.depth == 0:
			v.isScalar = true
		}
	}
	return -1
}

// nextValue takes a JSON value. Of one that is longer than an entry may be, the beginning is handed out. whole is false
// when the text ends within it.
func (s *source) nextValue() (value []byte, at place, tooLong, whole bool) {
	at = s.at
	var scan valueScan
	for {
		if length := scan.feed(s.buf); length >= 0 {
			text := s.take(length)
			if !tooLong {
				value, tooLong = text, length > maxEntry
			}
			return value[:min(len(value), maxEntry)], at, tooLong, true
		}
		if len(s.buf) > maxEntry {
			if !tooLong {
				value, tooLong = s.buf[:chunk:chunk], true
			}
			s.take(len(s.buf))
			scan.looked = 0
		}
		if !s.fill() {
			if len(s.buf) > scan.looked {
				continue
			}
			if !tooLong {
				value = s.buf
			}
			s.take(len(s.buf))
			return value, at, tooLong, scan.isScalar && scan.depth == 0
		}
	}
}

// readJSON reads {"users": {uid: user, …}}, {"users": [user, …]} or a list of users. Where a map says so, the member
// has another name.
func (r *reading) readJSON() error {
	opening, more := r.source.skipSpace()
	if !more {
		return errEmpty
	}
	var err error
	switch opening {
	case '[':
		r.source.take(1)
		err = r.readList(']')
	case '{':
		r.source.take(1)
		err = r.readObject()
	default:
		return r.source.at.errorf("the file must hold a JSON object or a list, and begins with %q", opening)
	}
	if err != nil {
		return err
	}
	if _, more := r.source.skipSpace(); more {
		return r.source.at.errorf("there is something behind the end of the users: it was not imported")
	}
	return nil
}

// cutOff is the error of a file that ends where it may not.
func (r *reading) cutOff() error {
	return r.source.at.errorf("the file ends within the users, behind entry %d: it was cut off", r.count)
}

// readObject reads the members of the file's object.
func (r *reading) readObject() error {
	wanted := "users"
	if r.Map != nil && r.Map.List != "" {
		wanted = r.Map.List
	}
	found := false
	err := r.members(func(name string, at place) error {
		next, more := r.source.skipSpace()
		switch {
		case !more:
			return r.cutOff()
		case name == wanted && next == '[':
			found = true
			r.source.take(1)
			return r.readList(']')
		case name == wanted && next == '{':
			found = true
			r.source.take(1)
			return r.members(r.readNamed)
		case name == wanted:
			return r.source.at.errorf("the %q must be a list or an object of users, and begins with %q", wanted, next)
		}
		value, _, _, whole := r.source.nextValue()
		if !whole {
			return r.cutOff()
		}
		if next != '{' && next != '[' {
			return nil // a version, or such
		}
		return r.emit(value, at, api.ExportLine{Type: "user"}, at.errorf("%q is not imported: only %q is", name, wanted))
	})
	if err == nil && !found {
		err = fmt.Errorf("the file has no %q, and is no list of users", wanted)
	}
	return err
}

// members reads the members of an object that has been opened, and its end. value takes the value of each.
func (r *reading) members(value func(name string, at place) error) error {
	for first := true; ; first = false {
		next, more := r.source.skipSpace()
		if !more {
			return r.cutOff()
		}
		if next == '}' && first {
			r.source.take(1)
			return nil
		}
		if next != '"' {
			return r.source.at.errorf("a name between quotes must be here, and %q is", next)
		}
		quoted, at, tooLong, whole := r.source.nextValue()
		if !whole {
			return r.cutOff()
		}
		name, err := textOf(quoted)
		if err != nil || tooLong || notUTF8(quoted) >= 0 {
			return errors.Join(at.errorf("the name here is not well-formed"), err)
		}
		if next, more = r.source.skipSpace(); !more {
			return r.cutOff()
		}
		if next != ':' {
			return r.source.at.errorf("a colon must be here, and %q is", next)
		}
		r.source.take(1)
		if err := value(name, at); err != nil {
			return err
		}
		if ended, err := r.endOrComma('}'); ended || err != nil {
			return err
		}
	}
}

// endOrComma takes the comma behind a value, or what ends the object or the list.
func (r *reading) endOrComma(end byte) (ended bool, err error) {
	next, more := r.source.skipSpace()
	switch {
	case !more:
		return true, r.cutOff()
	case next == end:
		r.source.take(1)
		return true, nil
	case next == ',':
		r.source.take(1)
		return false, nil
	}
	return true, r.source.at.errorf("a comma or %q must be here, and %q is: nothing behind it was imported", end, next)
}

// readList reads the users of a list that has been opened, and its end.
func (r *reading) readList(end byte) error {
	for first := true; ; first = false {
		next, more := r.source.skipSpace()
		if !more {
			return r.cutOff()
		}
		if next == end {
			r.source.take(1)
			if !first {
				return r.source.at.errorf("a user must follow a comma, and the list ends")
			}
			return nil
		}
		if err := r.readNamed("", r.source.at); err != nil {
			return err
		}
		if ended, err := r.endOrComma(end); ended || err != nil {
			return err
		}
	}
}

// readNamed reads one user, whom the file gives a name, or none.
func (r *reading) readNamed(name string, _ place) error {
	if _, more := r.source.skipSpace(); !more {
		return r.cutOff()
	}
	value, at, tooLong, whole := r.source.nextValue()
	if !whole {
		return r.cutOff()
	}
	if len(value) == 0 {
		next := r.source.buf[:min(1, len(r.source.buf))]
		return at.errorf("a user must be here, and %q is: nothing behind it was imported", next)
	}
	var content content
	var err error
	if tooLong {
		err = at.errorf("the user has more than %d bytes", maxEntry)
	} else {
		content, err = r.decode(value, at)
	}
	if user := content.User; err == nil && user != nil && name != "" {
		if user.UID == "" {
			user.UID = name
		} else if !strings.EqualFold(user.UID, name) {
			err = at.errorf("the user stands under the name %q and has the uid %q", name, user.UID)
		}
	}
	if name != "" { // it belongs to what the entry says
		value = append([]byte(name+":"), value...)
	}
	return r.emit(value, at, content.ExportLine, err)
}
