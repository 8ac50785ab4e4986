package directory

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"runtime"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/searchtext"
	"github.com/rollcall/rollcall/internal/userindex"
)

// Activity selects users by whether they are deactivated.
type Activity int

// The activities that a list can select.
const (
	ActiveOnly Activity = iota
	DeactivatedOnly
	ActiveOrDeactivated
)

func (u User) changedAt() int64 {
	if u.UpdatedAt == 0 {
		return u.CreatedAt
	}
	return u.UpdatedAt
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

// UserFilter is what a caller may ask of ListUsers. Lists that are nil do not restrict; those that are empty select
// nobody.
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

// userQuery is a question to the index of an app, as far as a filter says it.
type userQuery struct {
	userindex.Query
	order userindex.Order
	// roles are those of which users must have one; nil is any.
	roles []string
	// nobody says that nobody can match.
	nobody bool
	// related selects users by what is between them and the viewer: each entry must be met.
	related []Related
	// metadata are the filters by metadata.
	metadata []MetadataFilter
}

// ListUsers lists users as the caller may see them, with the true total. Without a wish for another order, an API key
// gets the newest first, and a user those online first and then all by name, without itself.
// Errors: CodeBadRequest, CodePermissionDenied, CodeOperationFailed while the index is being made.
func (d *Directory) ListUsers(
	ctx context.Context, caller Caller, policy *Policy, viewer User, filter UserFilter,
) (List[Seen], error) {
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
			query.related = append(query.related, Related{To: viewer.UID, Friends: true})
		}
	case filter.FriendsOnly:
		return list, nil // a key has no friends
	}
	err = d.list(ctx, caller.App, caller.User, &query, &list, func(_ Reader, asked *userindex.Query, blocked []string) error {
		if filter.HideBlockedUsers {
			asked.Without = append(asked.Without, blocked...)
		}
		asked.Parts = filter.parts(caller, query.order, blocked)
		return nil
	})
	filter.endWalk(&list)
	return list, err
}

// parts divides a list: those online come first in some orders, and in that of the last activity those between whom
// and the viewer a block stands come last, the newest of them first, so that their places do not tell when they were
// active. To the viewer they are offline.
func (f UserFilter) parts(caller Caller, order userindex.Order, blocked []string) []userindex.Part {
	all := userindex.Part{Order: order}
	online := all
	if online.Online, online.OnlineWithout = caller.knownOnline(f.Status), blocked; order == userindex.LastActiveFirst {
		online.Order = userindex.NewestFirst // they are active now, all of them
	}
	if isOnlineStatus(f.Status) {
		return []userindex.Part{online}
	}
	rest := all
	if f.Status == StatusOffline || f.onlineFirst(caller) {
		rest.NotOnline, rest.OnlineWithout = online.Online, blocked
	}
	var parts []userindex.Part
	if f.Status == "" && f.onlineFirst(caller) {
		parts = append(parts, online)
	}
	if f.hidesBlockedTimes(caller, order) {
		last := userindex.Part{Order: userindex.NewestFirst, Among: []userindex.Group{{UIDs: blocked}}}
		rest.Without = blocked
		return append(parts, rest, last)
	}
	return append(parts, rest)
}

// hidesBlockedTimes reports whether a list shows, by the places in it, when somebody was active between whom and the
// caller there may be a block.
func (f UserFilter) hidesBlockedTimes(caller Caller, order userindex.Order) bool {
	return caller.User != "" && order == userindex.LastActiveFirst && !f.HideBlockedUsers
}

// list reads one page as a viewer sees it, and the total: first what the store knows of the question, to which complete
// may add, who is told those between whom and the viewer a block stands; then who is on the page from the index, then
// their rows. Those of them who are gone or deactivated by then are left out.
func (d *Directory) list(
	ctx context.Context, app AppID, viewer UID, query *userQuery, list *List[Seen],
	complete func(tx Reader, asked *userindex.Query, blocked []string) error,
) error {
	if query.nobody {
		return nil
	}
	index, err := d.indexes.get(ctx, app)
	if err != nil {
		return err
	}
	if err := errIndexing(query.metadata, index.keys); err != nil {
		return err
	}
	return d.store.View(ctx, func(tx Reader) error {
		ties, err := d.tiesFor(tx, app, viewer)
		if err != nil {
			return err
		}
		asked, err := query.ask(tx, app, ties)
		if err != nil {
			return err
		}
		if err := complete(tx, &asked, ties.blocked); err != nil {
			return err
		}
		page := index.Find(asked)
		list.Total, list.Next = page.Total, ""
		if len(page.UIDs) == asked.Limit && asked.Limit > 0 {
			list.Next = encodeCursor(&asked, page.Last)
		}
		uids := make([]UID, len(page.UIDs))
		for i, uid := range page.UIDs {
			uids[i] = UID(uid)
		}
		users, err := tx.UsersNamed(app, uids)
		if err != nil {
			return err
		}
		if asked.Activity == userindex.ActiveOnly {
			users = slices.DeleteFunc(users, func(user User) bool { return user.DeactivatedAt != 0 })
		}
		list.Items = seen(viewer, users, ties.blocks)
		return nil
	})
}

// ask returns the question to the index, in one part, with the users who are related to the viewer as it says.
func (q *userQuery) ask(tx Reader, app AppID, ties *knownTies) (userindex.Query, error) {
	asked := q.Query
	asked.Without, asked.Among, asked.Terms = slices.Clip(q.Without), slices.Clip(q.Among), slices.Clip(q.Terms)
	asked.Parts = []userindex.Part{{Order: q.order}}
	if q.roles != nil {
		asked.Terms = append(asked.Terms, roleTerms(q.roles))
	}
	for _, related := range q.related {
		groups, err := groupsOf(tx, app, related, ties)
		if err != nil {
			return asked, err
		}
		asked.Among = append(asked.Among, groups)
	}
	return asked, nil
}

func roleTerms(roles []string) []userindex.Term {
	terms := make([]userindex.Term, len(roles))
	for i, role := range roles {
		terms[i] = userindex.Term{Kind: roleTerm, Value: role}
	}
	return terms
}

func texts(uids []UID) []string {
	list := make([]string, len(uids))
	for i, uid := range uids {
		list[i] = string(uid)
	}
	return list
}

func (d *Directory) userQuery(caller Caller, filter UserFilter, page Page) (userQuery, error) {
	query := userQuery{metadata: filter.Metadata}
	query.Limit, query.Offset = page.Size, page.offset()
	query.Activity = userindex.Activity(filter.Activity)
	var wrong FieldErrors
	filter.search(&wrong, &query)
	if filter.Status != "" {
		checkOneOf(&wrong, "status", filter.Status, []string{StatusAvailable, StatusAway, StatusBusy, StatusOffline})
	}
	checkText(&wrong, "searchKey", filter.Search, d.limits.Name, "")
	checkText(&wrong, "nameContains", filter.NameContains, d.limits.Name, "")
	if len(query.Words) > maxNameWords {
		wrong.Add("nameContains", "The nameContains may not hold more than %d words.", maxNameWords)
	}
	for _, list := range []struct {
		field string
		size  int
		limit int
	}{
		{"uids", len(filter.UIDs), d.limits.BulkUIDs},
		{"roles", len(filter.Roles), d.limits.RolesPerApp},
		{"tags", len(filter.Tags), d.limits.Tags},
	} {
		if list.size > list.limit {
			wrong.Add(list.field, "The %s may not be more than %d.", list.field, list.limit)
		}
	}
	filter.choose(&query)
	filter.selectChanged(&wrong, &query)
	filter.sort(&wrong, caller, &query)
	filter.continueWalk(&wrong, caller, &query)
	return query, wrong.Err()
}

// search applies what is looked for in uids and names. A text that holds neither letters nor digits nor symbols, such
// as accents alone, finds nobody.
func (f UserFilter) search(wrong *FieldErrors, query *userQuery) {
	inUID, inName := len(f.SearchIn) == 0, len(f.SearchIn) == 0
	for _, in := range f.SearchIn {
		checkOneOf(wrong, "searchIn", in, []string{"uid", "name"})
		inUID = inUID || in == "uid"
		inName = inName || in == "name"
	}
	if text := strings.TrimSpace(f.Search); text != "" {
		if inUID {
			query.UIDPrefix = strings.ToLower(text)
		}
		if inName {
			query.NamePrefix = searchtext.Fold(text)
		}
		query.nobody = query.UIDPrefix == "" && query.NamePrefix == ""
	}
	if strings.TrimSpace(f.NameContains) != "" {
		query.Words = onceEach(strings.Fields(searchtext.Fold(f.NameContains)))
		query.nobody = query.nobody || len(query.Words) == 0
	}
}

// choose applies the lists of a filter.
func (f UserFilter) choose(query *userQuery) {
	for _, role := range f.Roles {
		query.roles = append(query.roles, strings.ToLower(role))
	}
	query.nobody = query.nobody || isEmpty(f.Roles) || isEmpty(f.Tags) || isEmpty(f.UIDs)
	if len(f.Tags) > 0 {
		terms := make([]userindex.Term, len(f.Tags))
		for i, tag := range f.Tags {
			terms[i] = tagged(tag)
		}
		query.Terms = append(query.Terms, terms)
	}
	for _, of := range f.Metadata {
		query.Terms = append(query.Terms, of.terms())
	}
	if len(f.UIDs) > 0 {
		var group userindex.Group
		for _, uid := range f.UIDs {
			group.UIDs = append(group.UIDs, string(FoldUID(uid)))
		}
		query.Among = append(query.Among, []userindex.Group{group})
	}
}

// isEmpty reports whether a list was given and holds nothing.
func isEmpty(list []string) bool { return list != nil && len(list) == 0 }

// onceEach returns the items of a list without those that have come before.
func onceEach[T comparable](list []T) []T {
	var once []T
	for _, item := range list {
		if !slices.Contains(once, item) {
			once = append(once, item)
		}
	}
	return once
}

// selectChanged applies the contract's cursor: what was changed before or after a time (contract rest.md section 0).
func (f UserFilter) selectChanged(wrong *FieldErrors, query *userQuery) {
	if f.Affix != "" {
		checkOneOf(wrong, "affix", f.Affix, []string{"append", "prepend"})
	}
	switch {
	case f.UpdatedAt == 0:
	case f.Affix == "prepend":
		query.ChangedBefore, query.order = f.UpdatedAt, userindex.LastChangedFirst
	default:
		query.ChangedAfter, query.order, query.Backward = f.UpdatedAt, userindex.LastChangedFirst, true
	}
}

// orders maps what a caller may sort by to an order and whether it runs downward by nature.
var orders = map[string]struct {
	order    userindex.Order
	downward bool
}{
	"name": {userindex.ByName, false}, "status": {userindex.ByName, false}, "createdat": {userindex.NewestFirst, true},
	"updatedat": {userindex.LastChangedFirst, true}, "lastactiveat": {userindex.LastActiveFirst, true},
}

func (f UserFilter) sort(wrong *FieldErrors, caller Caller, query *userQuery) {
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
	query.order, query.Backward = order.order, false
	if f.SortOrder != "" {
		query.Backward = (strings.ToLower(f.SortOrder) == "desc") != order.downward
	}
}

// onlineFirst reports whether those online come first: in the order of status, and in that of the last activity, which
// is now for them. In a walk they do not: it goes by what is stored, so that nobody is missed who comes or goes
// meanwhile.
func (f UserFilter) onlineFirst(caller Caller) bool {
	sortBy := strings.ToLower(f.SortBy)
	return f.Cursor == "" && f.UpdatedAt == 0 &&
		(sortBy == "status" || sortBy == "lastactiveat" || sortBy == "" && caller.User != "")
}

// cursor is where a walk goes on. It belongs to one order.
type cursor struct {
	Order    userindex.Order `json:"o"`
	Backward bool            `json:"b,omitempty"`
	After    position        `json:"a"`
}

// position is a place in an order: behind the user it was taken from.
type position struct {
	Name string `json:"n,omitempty"`
	// Times are what the order compares before the uid.
	Times []int64 `json:"t,omitempty"`
	UID   string  `json:"u"`
}

// timesIn is how many times an order compares.
var timesIn = map[userindex.Order]int{
	userindex.NewestFirst: 1, userindex.LastChangedFirst: 1, userindex.LastActiveFirst: 2,
}

func encodeCursor(asked *userindex.Query, last userindex.Position) string {
	order := asked.Parts[last.Part].Order
	text, err := json.Marshal(cursor{order, asked.Backward, position{last.Name, last.Times[:timesIn[order]], last.UID}})
	if err != nil {
		return "" // numbers and texts always have a JSON form
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func (f UserFilter) continueWalk(wrong *FieldErrors, caller Caller, query *userQuery) {
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
	after := userindex.Position{Name: c.After.Name, UID: c.After.UID}
	copy(after.Times[:], c.After.Times)
	order := c.Order
	if f.hidesBlockedTimes(caller, query.order) && order == userindex.NewestFirst { // it is among those blocked
		order, after.Part = query.order, 1
	}
	if err != nil || order != query.order || c.Backward != query.Backward || len(c.After.Times) != timesIn[c.Order] ||
		!IsText(after.Name+after.UID) {
		wrong.Add("cursor",
			"The cursor must be the one that the last page came with, and sortBy and sortOrder must stay as they were.")
		return
	}
	query.After = &after
}

// endWalk takes the cursor out of a page that is not part of a walk.
func (f UserFilter) endWalk(list *List[Seen]) {
	if f.Cursor == "" {
		list.Next = ""
	}
}
