package directory

import (
	"context"
	"strings"
	"unicode"

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
	// NewestFirst is by creation, latest first.
	NewestFirst Order = iota
	// ByName is by name, ignoring case and accents.
	ByName
)

// UserQuery selects users of an app. Zero fields do not restrict.
type UserQuery struct {
	App AppID
	// Search is a prefix of the folded uid or name, as SearchUID and SearchName say.
	Search                string
	SearchUID, SearchName bool
	// Roles, Tags and UIDs select users with any of them.
	Roles []string
	Tags  []string
	UIDs  []UID
	// NotUID leaves one user out.
	NotUID   UID
	Activity Activity
	Order    Order
	Limit    int
	Offset   int
}

// UserFilter is what a caller may ask of ListUsers.
type UserFilter struct {
	// Search is a prefix of the uid or the name, in any case.
	Search string
	// SearchIn holds "uid", "name" or both; empty means both.
	SearchIn    []string
	Roles       []string
	Tags        []string
	UIDs        []string
	FriendsOnly bool
	// Status is "available", "offline" or empty for all.
	Status   string
	Activity Activity
	Page     Page
}

// Statuses on the wire (contract rest.md section 1.1).
const (
	StatusAvailable = "available"
	StatusOffline   = "offline"
)

// ListUsers lists users as the caller may see them, with the true total: for an API key newest first, for a user by
// name and without the caller itself. Errors: CodeBadRequest, CodePermissionDenied.
func (d *Directory) ListUsers(ctx context.Context, caller Caller, policy *Policy, viewer User, filter UserFilter) (List[User], error) {
	list := List[User]{Page: filter.Page.orDefault()}
	query, err := d.userQuery(caller, filter, list.Page)
	if err != nil {
		return list, err
	}
	if caller.User != "" {
		if some, err := policy.narrow(viewer, &query); err != nil || !some {
			return list, err
		}
	}
	if filter.Status == StatusAvailable || filter.FriendsOnly {
		return list, nil // nobody has a session or a friend yet
	}
	err = d.store.View(ctx, func(tx Tx) error {
		var err error
		if list.Total, err = tx.CountUsers(query); err != nil {
			return err
		}
		list.Items, err = tx.Users(query)
		return err
	})
	return list, err
}

func (d *Directory) userQuery(caller Caller, filter UserFilter, page Page) (UserQuery, error) {
	query := UserQuery{
		App: caller.App, Search: FoldText(filter.Search), SearchUID: len(filter.SearchIn) == 0, SearchName: len(filter.SearchIn) == 0,
		Tags: filter.Tags, Activity: filter.Activity, Limit: page.Size, Offset: page.offset(),
	}
	var wrong FieldErrors
	for _, in := range filter.SearchIn {
		checkOneOf(&wrong, "searchIn", in, []string{"uid", "name"})
		query.SearchUID = query.SearchUID || in == "uid"
		query.SearchName = query.SearchName || in == "name"
	}
	if filter.Status != "" {
		checkOneOf(&wrong, "status", filter.Status, []string{StatusAvailable, StatusOffline})
	}
	checkText(&wrong, "searchKey", filter.Search, d.limits.Name, "")
	for _, role := range filter.Roles {
		query.Roles = append(query.Roles, strings.ToLower(role))
	}
	for _, uid := range filter.UIDs {
		query.UIDs = append(query.UIDs, FoldUID(uid))
	}
	for _, list := range []struct {
		field string
		size  int
		limit int
	}{{"uids", len(filter.UIDs), d.limits.BulkUIDs}, {"roles", len(filter.Roles), d.limits.RolesPerApp}, {"tags", len(filter.Tags), d.limits.Tags}} {
		if list.size > list.limit {
			wrong.Add(list.field, "The %s may not be more than %d.", list.field, list.limit)
		}
	}
	return query, wrong.Err()
}

// FoldText returns text as searches and name orders compare it: lower case, without accents, and with single spaces.
func FoldText(text string) string {
	ascii := true
	for i := range len(text) {
		ascii = ascii && text[i] < 0x80
	}
	if !ascii {
		text = strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Mn, r) {
				return -1
			}
			return r
		}, norm.NFKD.String(text))
	}
	return strings.Join(strings.Fields(strings.ToLower(text)), " ")
}
