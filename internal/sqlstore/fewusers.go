package sqlstore

import (
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/directory"
)

// maxCandidates is how many users are worth looking at one by one to find those that a query selects.
const maxCandidates = 1000

// candidates returns the uids among which are all that a query selects, without repetition, if one of its filters leaves
// but few. They come from the index of that filter alone: everything else is looked at in memory.
func (t *tx) candidates(query directory.UserQuery) (uids []directory.UID, few bool, err error) {
	if len(query.Related) > 1 {
		return nil, false, nil
	}
	if count := len(query.UIDs); count > 0 && len(query.Related) == 0 {
		uids := slices.Clone(query.UIDs)
		slices.Sort(uids)
		return slices.Compact(uids), count <= maxCandidates, nil
	}
	for _, place := range t.narrowPlaces(query) {
		if uids, err = t.uids(0, place); err != nil || len(uids) <= maxCandidates {
			slices.Sort(uids)
			return slices.Compact(uids), err == nil, err
		}
	}
	return nil, false, nil
}

// narrowPlaces returns a statement for each filter of a query that may leave few users. Each reads no more than one row
// beyond maxCandidates from an index.
func (t *tx) narrowPlaces(query directory.UserQuery) (places []*statement) {
	begin := func() (s *statement, app string) {
		s = &statement{}
		return s, s.arg(string(query.App))
	}
	end := func(s *statement) {
		s.add(` LIMIT ` + s.arg(maxCandidates+1))
		places = append(places, s)
	}
	if len(query.Related) > 0 {
		s, app := begin()
		s.add(relatedUIDs(s, app, query.Related[0]))
		end(s)
		return places // nothing else tells who is related
	}
	for _, wanted := range searchesOf(query) {
		if t.many[placesKey{query.App, wanted}] {
			continue
		}
		s, app := begin()
		s.add(strings.Join(searchPlaces(s, app, wanted), ` UNION ALL `))
		end(s)
	}
	for _, filter := range query.Metadata {
		s, app := begin()
		s.add(`SELECT uid FROM user_metadata WHERE app = ` + app + ` AND `)
		addMetadataFilter(s, filter)
		end(s)
	}
	if len(query.Tags) > 0 {
		s, app := begin()
		s.add(`SELECT uid FROM user_tags WHERE app = ` + app + ` AND `)
		in(s, `tag`, query.Tags)
		end(s)
	}
	if onlyOtherRoles(query) {
		s, app := begin()
		s.add(`SELECT uid FROM users WHERE app = ` + app + ` AND role <> 'default' AND `)
		in(s, `role`, query.Roles)
		end(s)
	}
	return places
}

// pageAmong returns the page of a query whose users are all among the candidates, and how many it selects.
func (t *tx) pageAmong(query directory.UserQuery, candidates []directory.UID) (page []directory.User, total int, err error) {
	users, err := t.usersWith(query.App, candidates)
	if err != nil {
		return nil, 0, err
	}
	if query.NotBlockedWith != "" && len(users) > 0 {
		if users, err = t.withoutBlocks(query, users); err != nil {
			return nil, 0, err
		}
	}
	selected := make([]namedUser, 0, len(users))
	for i := range users {
		candidate := namedUser{User: &users[i]}
		if query.Order == directory.ByName || query.AsksForName(&users[i]) {
			candidate.nameKey = directory.FoldText(users[i].Name)
		}
		if query.Selects(candidate.User, candidate.nameKey) {
			selected = append(selected, candidate)
		}
	}
	total = len(selected)
	slices.SortFunc(selected, func(a, b namedUser) int {
		if query.Backward {
			a, b = b, a
		}
		return query.Order.Compare(a.User, b.User, a.nameKey, b.nameKey)
	})
	if query.After != nil {
		selected = slices.DeleteFunc(selected, func(candidate namedUser) bool {
			at := comparePositions(directory.PositionOf(query.Order, *candidate.User), *query.After)
			return at == 0 || (at < 0) != query.Backward
		})
	}
	selected = selected[min(query.Offset, len(selected)):]
	page = make([]directory.User, min(query.Limit, len(selected)))
	for i := range page {
		page[i] = *selected[i].User
	}
	return page, total, nil
}

// namedUser is a user with its folded name, where that matters.
type namedUser struct {
	*directory.User
	nameKey string
}

// withoutBlocks leaves those out between whom and the user that the query names there is a block.
func (t *tx) withoutBlocks(query directory.UserQuery, users []directory.User) ([]directory.User, error) {
	uids := make([]directory.UID, len(users))
	for i, user := range users {
		uids[i] = user.UID
	}
	relations, err := t.Relations(query.App, query.NotBlockedWith, uids)
	return slices.DeleteFunc(users, func(user directory.User) bool {
		relation := relations[user.UID]
		return relation.BlockedByMeAt != 0 || relation.HasBlockedMeAt != 0
	}), err
}
