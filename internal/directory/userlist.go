package directory

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Activity selects users by whether they are deactivated.
type Activity int

// The activities that a list can select.
const (
	ActiveOnly Activity = iota
	DeactivatedOnly
	ActiveOrDeactivated
)

// Order is the order of a list of users. Each ends with the uid, so that no two users are equal.
type Order int

// The orders that a list can have.
const (
	// NewestFirst is by creation, latest first, then by uid.
	NewestFirst Order = iota
	// ByName is by name, ignoring case and accents, then by uid.
	ByName
	// LastChangedFirst is by the last update, or the creation of users never updated, latest first, then by uid.
	LastChangedFirst
	// LastActiveFirst is by the last activity, latest first; those never active come last, the newest of them first.
	LastActiveFirst
	// ByUID is by uid alone.
	ByUID
)

// Compare tells which of two users comes first in the order. Their folded names matter to ByName alone.
func (o Order) Compare(a, b *User, aName, bName string) int {
	var first int
	switch o { // times run downward
	case NewestFirst:
		first = cmp.Compare(b.CreatedAt, a.CreatedAt)
	case LastChangedFirst:
		first = cmp.Compare(b.changedAt(), a.changedAt())
	case LastActiveFirst:
		first = cmp.Or(cmp.Compare(b.LastActiveAt, a.LastActiveAt), cmp.Compare(b.CreatedAt, a.CreatedAt))
	case ByName:
		first = cmp.Compare(aName, bName)
	case ByUID: // there is nothing else
	}
	return cmp.Or(first, cmp.Compare(a.UID, b.UID))
}

// Position is a place in an Order: behind the user it was taken from.
type Position struct {
	Name string `json:"n,omitempty"`
	// Times are what the order compares before the uid.
	Times []int64 `json:"t,omitempty"`
	UID   UID     `json:"u"`
}

// PositionOf returns the user's position in an order.
func PositionOf(order Order, user User) Position {
	position := Position{UID: user.UID}
	switch order {
	case ByName:
		position.Name = FoldText(user.Name)
	case NewestFirst:
		position.Times = []int64{user.CreatedAt}
	case LastChangedFirst:
		position.Times = []int64{user.changedAt()}
	case LastActiveFirst:
		position.Times = []int64{user.LastActiveAt, user.CreatedAt}
	case ByUID: // there is nothing else
	}
	return position
}

// fits reports whether a position is one in an order, by the times that it has.
func (p *Position) fits(order Order) bool {
	return p != nil && len(p.Times) == len(PositionOf(order, User{}).Times)
}

func (u User) changedAt() int64 {
	if u.UpdatedAt == 0 {
		return u.CreatedAt
	}
	return u.UpdatedAt
}

// UserQuery selects users of an app. Zero fields do not restrict.
type UserQuery struct {
	App AppID
	// Search is a folded prefix of the uid or of the name from any word on, as SearchUID and SearchName say.
	Search                string
	SearchUID, SearchName bool
	// Words are folded prefixes, for each of which the name must have a word.
	Words []string
	// Roles, Tags and UIDs select users with any of them.
	Roles []string
	Tags  []string
	UIDs  []UID
	// Metadata selects users by values of declared keys: each filter must be met.
	Metadata []MetadataFilter
	// Related selects users by what is between them and another: each entry must be met.
	Related []Related
	// NotUID leaves one user out, and NotBlockedWith those who have blocked a user or are blocked by it.
	NotUID, NotBlockedWith UID
	// ChangedAfter and ChangedBefore select by when users were last changed, in Unix seconds.
	ChangedAfter, ChangedBefore int64
	Activity                    Activity
	Order                       Order
	// Backward reverses the order.
	Backward bool
	// After starts behind a position in the order.
	After  *Position
	Limit  int
	Offset int
}

// Selects says of a user and its folded name what the store says of users: whether the query selects it, but for Related,
// NotBlockedWith, After, Limit and Offset.
func (q *UserQuery) Selects(user *User, nameKey string) bool {
	switch {
	case user.UID == q.NotUID && q.NotUID != "",
		q.Activity == ActiveOnly && user.DeactivatedAt != 0,
		q.Activity == DeactivatedOnly && user.DeactivatedAt == 0,
		len(q.Roles) > 0 && !slices.Contains(q.Roles, user.Role),
		len(q.UIDs) > 0 && !slices.Contains(q.UIDs, user.UID),
		len(q.Tags) > 0 && !slices.ContainsFunc(q.Tags, func(tag string) bool { return slices.Contains(user.Tags, tag) }),
		q.ChangedAfter != 0 && user.changedAt() <= q.ChangedAfter,
		q.ChangedBefore != 0 && user.changedAt() >= q.ChangedBefore,
		q.Search != "" && !q.finds(user.UID, nameKey),
		slices.ContainsFunc(q.Metadata, func(filter MetadataFilter) bool { return !filter.selects(user.Metadata) }):
		return false
	}
	return !slices.ContainsFunc(q.Words, func(word string) bool { return !hasWords(nameKey, word) })
}

// AsksForName reports whether Selects looks at the folded name of a user.
func (q *UserQuery) AsksForName(user *User) bool {
	return len(q.Words) > 0 || q.Search != "" && q.SearchName && !q.findsUID(user.UID)
}

func (q *UserQuery) finds(uid UID, nameKey string) bool {
	return q.findsUID(uid) || q.SearchName && hasWords(nameKey, q.Search)
}

func (q *UserQuery) findsUID(uid UID) bool {
	return q.SearchUID && strings.HasPrefix(string(uid), q.Search)
}

// hasWords reports whether a folded name continues with a text from one of its words on.
func hasWords(nameKey, prefix string) bool {
	if strings.HasPrefix(nameKey, prefix) {
		return true
	}
	for i := range len(nameKey) {
		if nameKey[i] == ' ' && strings.HasPrefix(nameKey[i+1:], prefix) {
			return true
		}
	}
	return false
}

// ListsAtOnce is how many lists may be read at a time so that they leave readers of the store free for what reads
// little.
func (d *Directory) ListsAtOnce() int {
	if store, ok := d.store.(interface{ Readers() int }); ok {
		return max(1, store.Readers()/2)
	}
	return max(2, runtime.GOMAXPROCS(0))
}

// maxNameWords is how many words NameContains may hold: each of them is looked for by itself.
const maxNameWords = 8

// UserFilter is what a caller may ask of ListUsers.
type UserFilter struct {
	// Search is a prefix of the uid or of any word of the name, in any case.
	Search string
	// SearchIn holds "uid", "name" or both; empty means both.
	SearchIn []string
	// NameContains holds words that the name must have, each by its beginning, at most 8.
	NameContains     string
	Roles            []string
	Tags             []string
	UIDs             []string
	Metadata         []MetadataFilter
	FriendsOnly      bool
	HideBlockedUsers bool
	// Status is "offline"; "available" for everybody online, "away" or "busy" for those of them who present themselves so;
	// or empty for all.
	Status   string
	Activity Activity
	// SortBy is "name", "status", "createdAt", "updatedAt", "lastActiveAt", or empty for the caller's default.
	SortBy string
	// SortOrder is "asc", "desc", or empty: the natural one, which is asc for name and status and desc for times.
	SortOrder string
	// UpdatedAt and Affix select what was changed after a time ("append") or before it ("prepend").
	UpdatedAt int64
	Affix     string
	// Cursor continues a walk behind the page it came with; "start" begins one. It replaces Page.Number.
	Cursor string
	Page   Page
}

// CursorStart is the cursor that begins a walk.
const CursorStart = "start"

// Statuses on the wire (contract rest.md section 1.1).
const (
	StatusAvailable = "available"
	StatusOffline   = "offline"
	// StatusAway and StatusBusy are what users who are online can present themselves as, and lists can be asked for. In a
	// list they are available, as everybody online is.
	StatusAway = "away"
	StatusBusy = "busy"
)

// isOnlineStatus reports whether a filter by a status selects nobody but users who are online.
func isOnlineStatus(status string) bool {
	return status == StatusAvailable || status == StatusAway || status == StatusBusy
}

// ListUsers lists users as the caller may see them, with the true total. Without a wish for another order, an API key
// gets the newest first, and a user those online first and then all by name, without itself.
// Errors: CodeBadRequest, CodePermissionDenied.
func (d *Directory) ListUsers(ctx context.Context, caller Caller, policy *Policy, viewer User, filter UserFilter) (List[Seen], error) {
	if err := policy.mayListUsers(caller, viewer); err != nil {
		return List[Seen]{}, err
	}
	list := List[Seen]{Page: filter.Page.orDefault()}
	if len(filter.Metadata) > 0 {
		if err := policy.App.Settings.checkMetadataFilters(filter.Metadata); err != nil {
			return list, err
		}
	}
	query, err := d.userQuery(caller, filter, list.Page)
	if err != nil {
		return list, err
	}
	switch {
	case caller.User != "":
		if some, err := policy.narrow(viewer, &query); err != nil || !some {
			return list, err
		}
		if filter.Activity == DeactivatedOnly {
			return list, nil // whom no user sees
		}
		if filter.FriendsOnly {
			query.Related = append(query.Related, Related{To: viewer.UID, Friends: true})
		}
		if filter.HideBlockedUsers {
			query.NotBlockedWith = viewer.UID
		}
	case filter.FriendsOnly:
		return list, nil // a key has no friends
	}
	byStatus := filter.Status != "" || filter.onlineFirst(caller)
	byStatus = isOnlineStatus(filter.Status) || byStatus && d.countKnownOnline(caller) > 0
	read := func(tx Tx, query UserQuery, list *List[Seen]) error {
		if byStatus {
			return d.listByStatus(tx, query, caller, filter.Status, filter.onlineFirst(caller), list)
		}
		return listUsers(tx, query, caller.User, list)
	}
	err = d.store.View(ctx, func(tx Tx) error {
		if filter.hidesBlockedTimes(caller, query) && !isOnlineStatus(filter.Status) {
			return listBlockedLast(tx, query, caller.User, read, &list)
		}
		return read(tx, query, &list)
	})
	filter.endWalk(&list)
	return list, err
}

// hidesBlockedTimes reports whether a list shows, by the places in it, when somebody was active between whom and the caller
// there may be a block.
func (f UserFilter) hidesBlockedTimes(caller Caller, query UserQuery) bool {
	return caller.User != "" && query.Order == LastActiveFirst && !f.HideBlockedUsers
}

// listBlockedLast reads one page of a list by last activity of which read reads the part without those between whom and the
// viewer a block stands. They come behind it, the newest first, so that their places do not tell when they were active.
func listBlockedLast(tx Tx, query UserQuery, viewer UID, read func(Tx, UserQuery, *List[Seen]) error, list *List[Seen]) error {
	blocks, err := tx.PairsOf(query.App, Blocks, viewer)
	if err != nil {
		return err
	}
	if amongBlocked := query.After.fits(NewestFirst); len(blocks) == 0 && !amongBlocked {
		return read(tx, query, list)
	}
	*list = List[Seen]{Page: list.Page}
	others, blocked := query, query
	others.NotBlockedWith = viewer
	blocked.Related = append(slices.Clone(query.Related), Related{To: viewer, Blocked: true, Blockers: true})
	blocked.Order = NewestFirst
	parts := []UserQuery{others, blocked}
	if query.Backward {
		slices.Reverse(parts)
	}
	arrived := query.After == nil
	for _, part := range parts {
		part.Limit = query.Limit - len(list.Items)
		part.Offset = max(0, query.Offset-list.Total)
		switch {
		case arrived:
			part.After = nil
		case part.After.fits(part.Order):
			arrived = true
		default: // the walk is behind this part
			part.After, part.Limit = nil, 0
		}
		page := List[Seen]{}
		if part.Order == NewestFirst {
			err = listUsers(tx, part, viewer, &page)
		} else {
			err = read(tx, part, &page)
		}
		if err != nil {
			return err
		}
		list.Total += page.Total
		list.Items = append(list.Items, page.Items...)
		list.Next = cmp.Or(page.Next, list.Next)
	}
	return nil
}

// listUsers reads one page as a viewer sees it, and the total.
func listUsers(tx Tx, query UserQuery, viewer UID, list *List[Seen]) error {
	users, total, err := tx.UserPage(query)
	if err != nil {
		return err
	}
	list.Total = total
	if len(users) == query.Limit && len(users) > 0 {
		list.Next = encodeCursor(query, users[len(users)-1])
	}
	list.Items, err = seen(tx, query.App, viewer, users)
	return err
}

func (d *Directory) userQuery(caller Caller, filter UserFilter, page Page) (UserQuery, error) {
	query := UserQuery{
		App: caller.App, Search: FoldText(filter.Search), SearchUID: len(filter.SearchIn) == 0, SearchName: len(filter.SearchIn) == 0,
		Words: onceEach(strings.Fields(FoldText(filter.NameContains))), Tags: onceEach(filter.Tags),
		Activity: filter.Activity, Limit: page.Size, Offset: page.offset(),
	}
	for _, of := range filter.Metadata {
		query.Metadata = append(query.Metadata, MetadataFilter{Key: of.Key, Values: onceEach(of.Values)})
	}
	var wrong FieldErrors
	for _, in := range filter.SearchIn {
		checkOneOf(&wrong, "searchIn", in, []string{"uid", "name"})
		query.SearchUID = query.SearchUID || in == "uid"
		query.SearchName = query.SearchName || in == "name"
	}
	if filter.Status != "" {
		checkOneOf(&wrong, "status", filter.Status, []string{StatusAvailable, StatusAway, StatusBusy, StatusOffline})
	}
	checkText(&wrong, "searchKey", filter.Search, d.limits.Name, "")
	checkText(&wrong, "nameContains", filter.NameContains, d.limits.Name, "")
	if len(query.Words) > maxNameWords {
		wrong.Add("nameContains", "The nameContains may not hold more than %d words.", maxNameWords)
	}
	for _, role := range filter.Roles {
		query.Roles = append(query.Roles, strings.ToLower(role))
	}
	for _, uid := range filter.UIDs {
		query.UIDs = append(query.UIDs, FoldUID(uid))
	}
	query.Roles, query.UIDs = onceEach(query.Roles), onceEach(query.UIDs)
	for _, list := range []struct {
		field string
		size  int
		limit int
	}{{"uids", len(filter.UIDs), d.limits.BulkUIDs}, {"roles", len(filter.Roles), d.limits.RolesPerApp}, {"tags", len(filter.Tags), d.limits.Tags}} {
		if list.size > list.limit {
			wrong.Add(list.field, "The %s may not be more than %d.", list.field, list.limit)
		}
	}
	filter.selectChanged(&wrong, &query)
	filter.order(&wrong, caller, &query)
	filter.continueWalk(&wrong, caller, &query)
	return query, wrong.Err()
}

// onceEach returns the items of a list without those that have come before.
func onceEach[T comparable](list []T) []T {
	for i := 1; i < len(list); i++ {
		if slices.Contains(list[:i], list[i]) {
			once := slices.Clone(list[:i])
			for _, item := range list[i+1:] {
				if !slices.Contains(once, item) {
					once = append(once, item)
				}
			}
			return once
		}
	}
	return list
}

// selectChanged applies the contract's cursor: what was changed before or after a time (contract rest.md section 0).
func (f UserFilter) selectChanged(wrong *FieldErrors, query *UserQuery) {
	if f.Affix != "" {
		checkOneOf(wrong, "affix", f.Affix, []string{"append", "prepend"})
	}
	switch {
	case f.UpdatedAt == 0:
	case f.Affix == "prepend":
		query.ChangedBefore, query.Order = f.UpdatedAt, LastChangedFirst
	default:
		query.ChangedAfter, query.Order, query.Backward = f.UpdatedAt, LastChangedFirst, true
	}
}

// orders maps what a caller may sort by to an order and whether it runs downward by nature.
var orders = map[string]struct {
	order    Order
	downward bool
}{
	"name": {ByName, false}, "status": {ByName, false}, "createdat": {NewestFirst, true}, "updatedat": {LastChangedFirst, true}, "lastactiveat": {LastActiveFirst, true},
}

func (f UserFilter) order(wrong *FieldErrors, caller Caller, query *UserQuery) {
	if f.SortOrder != "" {
		checkOneOf(wrong, "sortOrder", strings.ToLower(f.SortOrder), []string{"asc", "desc"})
	}
	sortBy := strings.ToLower(f.SortBy)
	if sortBy == "" {
		if f.UpdatedAt != 0 {
			return
		}
		sortBy = "createdat"
		if caller.User != "" {
			sortBy = "status"
		}
	}
	order, known := orders[sortBy]
	if !known {
		wrong.Add("sortBy", "The sortBy must be one of: name, status, createdAt, updatedAt, lastActiveAt.")
		return
	}
	query.Order, query.Backward = order.order, false
	if f.SortOrder != "" {
		query.Backward = (strings.ToLower(f.SortOrder) == "desc") != order.downward
	}
}

// onlineFirst reports whether those online come first: in the order of status, and in that of the last activity, which is
// now for them. In a walk they do not: it goes by what is stored, so that nobody is missed who comes or goes meanwhile.
func (f UserFilter) onlineFirst(caller Caller) bool {
	sortBy := strings.ToLower(f.SortBy)
	return f.Cursor == "" && f.UpdatedAt == 0 && (sortBy == "status" || sortBy == "lastactiveat" || sortBy == "" && caller.User != "")
}

// cursor is where a walk goes on. It belongs to one order.
type cursor struct {
	Order    Order    `json:"o"`
	Backward bool     `json:"b,omitempty"`
	After    Position `json:"a"`
}

func encodeCursor(query UserQuery, last User) string {
	text, err := json.Marshal(cursor{query.Order, query.Backward, PositionOf(query.Order, last)})
	if err != nil {
		return "" // numbers and texts always have a JSON form
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func (f UserFilter) continueWalk(wrong *FieldErrors, caller Caller, query *UserQuery) {
	if f.Cursor == "" {
		return
	}
	if f.Status != "" {
		wrong.Add("cursor", "A walk cannot be filtered by status, which changes meanwhile. Use page.")
	}
	query.Offset = 0
	if f.Cursor == CursorStart {
		return
	}
	var c cursor
	text, err := base64.RawURLEncoding.DecodeString(f.Cursor)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	order := c.Order
	if f.hidesBlockedTimes(caller, *query) && order == NewestFirst { // it is among those blocked: see listBlockedLast
		order = query.Order
	}
	if err != nil || order != query.Order || c.Backward != query.Backward ||
		!c.After.fits(c.Order) || !IsText(c.After.Name+string(c.After.UID)) {
		wrong.Add("cursor", "The cursor must be the one that the last page came with, and sortBy and sortOrder must stay as they were.")
		return
	}
	query.After = &c.After
}

// endWalk takes the cursor out of a page that is not part of a walk.
func (f UserFilter) endWalk(list *List[Seen]) {
	if f.Cursor == "" {
		list.Next = ""
	}
}

// nameTerms returns the folded name from its second, third … word on: with the name itself, every place at which a
// search may find it.
func nameTerms(name string) []string {
	var terms []string
	rest := FoldText(name)
	for {
		_, after, more := strings.Cut(rest, " ")
		if !more {
			return terms
		}
		rest = after
		if !slices.Contains(terms, rest) {
			terms = append(terms, rest)
		}
	}
}

// FoldText returns text as searches and name orders compare it: lower case, without accents, and with single spaces.
func FoldText(text string) string {
	if folded, ascii := foldASCII(text); ascii {
		return folded
	}
	text = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(text))
	return strings.Join(strings.Fields(strings.ToLower(text)), " ")
}

// foldASCII is FoldText for a text that is ASCII alone, in one pass: a search folds every name that it looks at.
func foldASCII(text string) (folded string, ascii bool) {
	letters := make([]byte, 0, 128)
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= utf8.RuneSelf:
			return "", false
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == ' ' || '\t' <= c && c <= '\r':
			if len(letters) == 0 || letters[len(letters)-1] == ' ' {
				continue
			}
			c = ' '
		}
		letters = append(letters, c)
	}
	return string(bytes.TrimSuffix(letters, []byte(" "))), true
}
