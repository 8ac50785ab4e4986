package httpapi

import (
	"net/url"
	"strings"

	"github.com/rollcall/rollcall/internal/directory"
)

// ignoredHeader names the members of the body, and behind a question mark the parameters of the query string, that a
// call has no use for: a name that is mistyped looks like one.
const ignoredHeader = "Rollcall-Ignored"

const (
	maxIgnored     = 20 // names; behind them come dots
	maxIgnoredName = 64 // bytes of each
)

// settleIgnored tells the caller what of the request nobody has read, or refuses the request when the caller prefers
// that.
func (c *call) settleIgnored() error {
	var names []string
	if c.decoded != nil {
		names = c.decoded.unread()
	}
	for _, parameter := range c.parameters() {
		if !parameter.read {
			names = append(names, "?"+plainName(parameter.name))
		}
	}
	if len(names) == 0 {
		return nil
	}
	if c.isStrict() {
		var wrong directory.FieldErrors
		for _, name := range names {
			wrong.Add(name, "This call has no %s. Check its name, or leave it out.", name)
		}
		return wrong.Err()
	}
	if len(names) > maxIgnored {
		names = append(names[:maxIgnored], "...")
	}
	c.w.Header()[ignoredHeader] = []string{strings.Join(names, ", ")}
	return nil
}

// isStrict reports whether the caller prefers to be refused to something of the request being ignored (RFC 7240).
func (c *call) isStrict() bool {
	for _, value := range c.r.Header["Prefer"] {
		for preference := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == ';' }) {
			name, wish, _ := strings.Cut(preference, "=")
			if strings.EqualFold(strings.TrimSpace(name), "handling") && strings.EqualFold(strings.Trim(wish, ` "`), "strict") {
				return true
			}
		}
	}
	return false
}

// unread returns the members that nobody has read, with those of objects within, at most one more than are told.
func (f *fields) unread() []string {
	names := f.ignored
	for i := range f.members {
		if !f.members[i].read && len(names) <= maxIgnored {
			names = append(names, plainName(f.members[i].name))
		}
	}
	return names
}

// adopt takes over from an object within what of it nobody has read.
func (f *fields) adopt(inner *fields, prefix string) {
	for _, name := range inner.unread() {
		if len(f.ignored) <= maxIgnored {
			f.ignored = append(f.ignored, prefix+name)
		}
	}
}

// plainName returns a name in a form that a header can hold, and not too long.
func plainName(name string) string {
	plain := name
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`,"?%`, r) }) {
		plain = url.QueryEscape(name)
	}
	if len(plain) > maxIgnoredName {
		plain = plain[:maxIgnoredName] + "..."
	}
	return plain
}

// nothing is for calls that take nothing but their path: what else the request holds is ignored.
func (c *call) nothing() error {
	f, err := c.decode()
	if err == nil {
		return f.err()
	}
	if c.isStrict() {
		return err
	}
	return c.query().err() // whatever the body is, it was never looked at
}
