package transfer

import (
	"embed"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollcall/rollcall/api"
)

// Map says where the fields of users are in the entries of another system's file. A path names a member, and members
// of that behind dots; a number is an item of a list. A text that holds a JSON object or list is looked into. Of
// several paths, the first counts under which there is something.
type Map struct {
	// List is the member of a JSON file that holds the users. Empty is users.
	List string `json:"list"`
	// Item is the member of an entry that holds the user, if it is there.
	Item string `json:"item"`
	// CellPrefix is cut off the cells of a CSV file, where it is.
	CellPrefix string `json:"cellPrefix"`

	UID []string `json:"uid"`
	// UIDReplacement stands for each character that a uid may not hold. Empty keeps them, and the server refuses the user.
	UIDReplacement string `json:"uidReplacement"`
	// Name is what others see. Who has none is called by its uid.
	Name []string `json:"name"`
	// NotName are members that are nobody's name although a name may be equal to them, such as an e-mail address.
	NotName       []string `json:"notName"`
	Avatar        []string `json:"avatar"`
	Link          []string `json:"link"`
	Role          []string `json:"role"`
	StatusMessage []string `json:"statusMessage"`
	Tags          []string `json:"tags"`

	CreatedAt    []string `json:"createdAt"`
	UpdatedAt    []string `json:"updatedAt"`
	LastActiveAt []string `json:"lastActiveAt"`

	// Deactivated are true for deactivated users, Active false, DeactivatedAt the time of it, and DeactivatedUntil a time
	// in the future.
	Deactivated      []string `json:"deactivated"`
	Active           []string `json:"active"`
	DeactivatedAt    []string `json:"deactivatedAt"`
	DeactivatedUntil []string `json:"deactivatedUntil"`

	// Metadata and Private are where members of the metadata are, which everybody sees who sees the user, and of its
	// private part. The name * is for all members of an object.
	Metadata map[string]string `json:"metadata"`
	Private  map[string]string `json:"private"`
	// Others puts what no path names, and Without does not, into the metadata or its private part: "metadata" or
	// "private".
	Others  string   `json:"others"`
	Without []string `json:"without"`

	now func() time.Time
}

//go:embed maps/*.json
var builtIn embed.FS

// MapNames are the maps that are built in.
func MapNames() (names []string) {
	files, err := fs.ReadDir(builtIn, "maps")
	if err != nil {
		return nil // it is embedded
	}
	for _, file := range files {
		names = append(names, strings.TrimSuffix(file.Name(), ".json"))
	}
	return names
}

// MapNamed returns a map that is built in, or else the one that a file holds. now tells the time.
func MapNamed(name string, now func() time.Time) (*Map, error) {
	text, err := builtIn.ReadFile("maps/" + name + ".json")
	if err != nil {
		if text, err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("%q is neither a file nor one of the maps %s: %w", name, strings.Join(MapNames(), ", "), err)
		}
	}
	m := &Map{now: now}
	if err := json.Unmarshal(text, m, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("the map %s: %w", name, describeMapError(err))
	}
	if len(m.UID) == 0 {
		return nil, fmt.Errorf("the map %s does not say where the uid is", name)
	}
	if m.Others != "" && m.Others != "metadata" && m.Others != "private" {
		return nil, fmt.Errorf("the map %s: others must be metadata or private", name)
	}
	return m, nil
}

// describeMapError says in words what is wrong with the text of a map.
func describeMapError(err error) error {
	var wrong *json.SemanticError
	if !errors.As(err, &wrong) {
		return err
	}
	if errors.Is(err, json.ErrUnknownName) {
		return fmt.Errorf(
			"maps have no member %s: docs/import.md names all", strings.TrimPrefix(string(wrong.JSONPointer), "/"),
		)
	}
	return fmt.Errorf("%s: %s is not what belongs there", strings.TrimPrefix(string(wrong.JSONPointer), "/"),
		kindName(wrong.JSONKind))
}

// madeWith returns the built-in map for a file that has a certain member; empty when no system is known by it.
func madeWith(member string) string {
	switch member {
	case "localId", "passwordHash", "photoUrl", "displayName":
		return "firebase"
	case "user_id", "logins_count":
		return "auth0"
	case "raw_user_meta_data", "raw_app_meta_data", "instance_id":
		return "supabase"
	case "profile_url":
		return "sendbird"
	}
	return ""
}

// unknownField says that users have no field of some name, and what to do.
func unknownField(name, leftOut string) error {
	if system := madeWith(name); system != "" {
		return fmt.Errorf("users have no such field; this looks like an export of %s: give --map %s", system, system)
	}
	return fmt.Errorf("users have no such field; --ignore-unknown leaves such %s out", leftOut)
}

// unquoted cuts the prefix off cells.
func (m *Map) unquoted(cells []member) []member {
	if m.CellPrefix == "" {
		return cells
	}
	for i := range cells {
		if text, err := textOf(cells[i].value); err == nil {
			cells[i].value, _ = jsontext.AppendQuote(nil, strings.TrimPrefix(text, m.CellPrefix))
		}
	}
	return cells
}

// user makes a user of an entry, and returns the uid as the entry has it.
func (m *Map) user(members []member) (*api.UserRow, string, error) {
	if m.Item != "" {
		if inner, ok := find(members, m.Item); ok && inner.Kind() == '{' {
			var err error
			if members, err = membersOf(inner, place{}); err != nil {
				return nil, "", err
			}
		}
	}
	row := new(api.UserRow)
	uid, _ := firstText(members, m.UID)
	if uid == "" {
		return nil, "", fmt.Errorf("there is no uid under %s", strings.Join(m.UID, ", "))
	}
	row.UID = m.plainUID(uid)
	name := m.nameOf(members)
	if name == "" {
		name = row.UID
	}
	row.Name = &name
	for _, field := range []struct {
		paths []string
		into  **string
	}{{m.Avatar, &row.Avatar}, {m.Link, &row.Link}, {m.Role, &row.Role}, {m.StatusMessage, &row.StatusMessage}} {
		if text, ok := firstText(members, field.paths); ok {
			*field.into = &text
		}
	}
	if tags, ok := first(members, m.Tags); ok {
		if _, err := setField(row, "tags", tags); err != nil {
			return nil, "", fmt.Errorf("%s: %w", strings.Join(m.Tags, ", "), err)
		}
	}
	if err := m.times(row, members); err != nil {
		return nil, "", err
	}
	metadata, err := m.metadata(members)
	if err != nil {
		return nil, "", err
	}
	row.Metadata = metadata
	return row, uid, nil
}

func (m *Map) plainUID(uid string) string {
	if m.UIDReplacement == "" {
		return uid
	}
	var plain strings.Builder
	for _, c := range uid {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			plain.WriteRune(c)
		} else {
			plain.WriteString(m.UIDReplacement)
		}
	}
	return plain.String()
}

func (m *Map) nameOf(members []member) string {
	for _, path := range m.Name {
		name, ok := firstText(members, []string{path})
		isOther := slices.ContainsFunc(m.NotName, func(other string) bool {
			text, ok := firstText(members, []string{other})
			return ok && strings.EqualFold(text, name)
		})
		if ok && !isOther && strings.TrimSpace(name) != "" {
			return name
		}
	}
	return ""
}

// times sets the times of a user. Who is deactivated and does not say since when is so since its last change.
func (m *Map) times(row *api.UserRow, members []member) error {
	for _, field := range []struct {
		paths []string
		into  **int64
	}{
		{m.CreatedAt, &row.CreatedAt},
		{m.UpdatedAt, &row.UpdatedAt},
		{m.LastActiveAt, &row.LastActiveAt},
		{m.DeactivatedAt, &row.DeactivatedAt},
	} {
		at, ok, err := firstTime(members, field.paths)
		if err != nil {
			return err
		}
		if ok && at > 0 { // what is before 1970 is how some say never
			*field.into = &at
		}
	}
	until, ok, err := firstTime(members, m.DeactivatedUntil)
	if err != nil {
		return err
	}
	deactivated := ok && until > m.now().Unix()
	if value, ok := first(members, m.Deactivated); ok && isTrue(value) {
		deactivated = true
	}
	if value, ok := first(members, m.Active); ok && !isTrue(value) {
		deactivated = true
	}
	if !deactivated || row.DeactivatedAt != nil {
		return nil
	}
	for _, known := range []*int64{row.UpdatedAt, row.LastActiveAt, row.CreatedAt} {
		if known != nil {
			row.DeactivatedAt = known
			return nil
		}
	}
	now := m.now().Unix()
	row.DeactivatedAt = &now
	return nil
}

// metadata returns what the map says of metadata; nil when there is nothing of it.
func (m *Map) metadata(members []member) (*stdjson.RawMessage, error) {
	public, err := gathered(members, m.Metadata)
	if err != nil {
		return nil, err
	}
	private, err := gathered(members, m.Private)
	if err != nil {
		return nil, err
	}
	if m.Others != "" {
		for _, other := range members {
			if m.names(other.name) || other.value.Kind() == 'n' {
				continue
			}
			if m.Others == "metadata" {
				public = appendMember(public, other.name, embedded(other.value))
			} else {
				private = appendMember(private, other.name, embedded(other.value))
			}
		}
	}
	if len(private) > 1 {
		public = appendMember(public, "@private", append(private, '}'))
	}
	if len(public) == 1 {
		return nil, nil
	}
	object := stdjson.RawMessage(append(public, '}'))
	if !jsontext.Value(object).IsValid() {
		return nil, errors.New("two members of the metadata would have the same name")
	}
	return &object, nil
}

// gathered returns an object, which is not closed yet, of what is found under paths.
func gathered(members []member, paths map[string]string) ([]byte, error) {
	object := []byte{'{'}
	names := make([]string, 0, len(paths))
	for name := range paths {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value, ok := find(members, paths[name])
		if value = embedded(value); !ok || isNothing(value) {
			continue
		}
		if name != "*" {
			object = appendMember(object, name, value)
			continue
		}
		if value.Kind() != '{' {
			return nil, fmt.Errorf("%s: it must be an object, and is %s", paths[name], kindName(value.Kind()))
		}
		all, err := membersOf(value, place{})
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			object = appendMember(object, one.name, one.value)
		}
	}
	return object, nil
}

// names reports whether a path of the map begins with a member.
func (m *Map) names(member string) bool {
	begins := func(path string) bool { return path == member || strings.HasPrefix(path, member+".") }
	for _, paths := range [][]string{
		m.UID, m.Name, m.NotName, m.Avatar, m.Link, m.Role, m.StatusMessage, m.Tags, m.CreatedAt, m.UpdatedAt, m.LastActiveAt,
		m.Deactivated, m.Active, m.DeactivatedAt, m.DeactivatedUntil, m.Without,
	} {
		if slices.ContainsFunc(paths, begins) {
			return true
		}
	}
	for _, paths := range []map[string]string{m.Metadata, m.Private} {
		for _, path := range paths {
			if begins(path) {
				return true
			}
		}
	}
	return false
}

// find returns what is under a path; nothing for null and for an empty text.
func find(members []member, path string) (jsontext.Value, bool) {
	for _, member := range members {
		if member.name == path {
			return member.value, !isNothing(member.value)
		}
	}
	columns := []byte{'{'} // CSV may have one for each member
	for _, member := range members {
		if name, ok := strings.CutPrefix(member.name, path+"."); ok && !isNothing(member.value) {
			columns = appendMember(columns, name, member.value)
		}
	}
	if len(columns) > 1 {
		return append(columns, '}'), true
	}
	name, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		return nil, false
	}
	value, ok := find(members, name)
	if !ok {
		return nil, false
	}
	value = embedded(value)
	for rest != "" && value.Kind() == '[' {
		var items []jsontext.Value
		index, after, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(index)
		if err != nil || json.Unmarshal(value, &items) != nil || n < 0 || n >= len(items) {
			return nil, false
		}
		value, rest = embedded(items[n]), after
	}
	if rest == "" {
		return value, !isNothing(value)
	}
	if value.Kind() != '{' {
		return nil, false
	}
	inner, err := membersOf(value, place{})
	if err != nil {
		return nil, false
	}
	return find(inner, rest)
}

func isNothing(value jsontext.Value) bool {
	switch string(value) {
	case "null", `""`, "{}", "[]":
		return true
	}
	return false
}

// embedded returns the JSON object or list that a text holds, or else the value as it is.
func embedded(value jsontext.Value) jsontext.Value {
	if value.Kind() != '"' {
		return value
	}
	text, err := textOf(value)
	inner := jsontext.Value(strings.TrimSpace(text))
	if holds := inner.Kind() == '{' || inner.Kind() == '['; err == nil && holds && inner.IsValid() {
		return inner
	}
	return value
}

func first(members []member, paths []string) (jsontext.Value, bool) {
	for _, path := range paths {
		if value, ok := find(members, path); ok {
			return value, true
		}
	}
	return nil, false
}

// firstText returns a text, or a number as one.
func firstText(members []member, paths []string) (string, bool) {
	value, ok := first(members, paths)
	if !ok {
		return "", false
	}
	if value.Kind() == '"' {
		text, err := textOf(value)
		return text, err == nil
	}
	return string(value), true
}

func firstTime(members []member, paths []string) (at int64, ok bool, err error) {
	for _, path := range paths {
		if value, found := find(members, path); found {
			if at, err = timeOf(value); err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			return at, true, err
		}
	}
	return 0, false, nil
}

// isTrue takes true, and texts and numbers that mean it.
func isTrue(value jsontext.Value) bool {
	text := string(value)
	if value.Kind() == '"' {
		text, _ = textOf(value)
	}
	switch strings.ToLower(text) {
	case "true", "t", "1", "yes":
		return true
	}
	return false
}
