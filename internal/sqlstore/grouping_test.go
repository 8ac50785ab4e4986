package sqlstore

import (
	"slices"
	"strings"
	"testing"
)

const (
	makeUser   = `INSERT INTO users (app, uid, name) VALUES ($1, $2, $3)`
	changeUser = makeUser + ` ON CONFLICT (app, uid) DO UPDATE SET name = excluded.name`
	addTag     = `INSERT INTO user_tags (app, uid, tag) VALUES ($1, $2, $3)`
	dropTags   = `DELETE FROM user_tags WHERE app = $1 AND uid = $2`
)

// ungrouped returns the text for one row of a statement for many.
func ungrouped(sql string) string {
	for _, text := range []string{changeUser, makeUser, addTag} {
		before, after, _ := strings.Cut(text, "VALUES ($1, $2, $3)")
		if strings.HasPrefix(sql, before) && strings.HasSuffix(sql, after) {
			return text
		}
	}
	return sql
}

func TestGroupInserts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// held are statements with the uid that each is about, and want is what they become: the uids of each.
		held, want []string
	}{
		{"creations and updates that alternate", []string{makeUser, "a", changeUser, "b", makeUser, "c", changeUser, "d"}, []string{makeUser, "a c", changeUser, "b d"}},
		{"a creation and its update", []string{changeUser, "b", makeUser, "a", changeUser, "a"}, []string{changeUser, "b", makeUser, "a", changeUser, "a"}},
		{"two updates of one user", []string{changeUser, "a", changeUser, "a"}, []string{changeUser, "a", changeUser, "a"}},
		{"rows without a known key", []string{addTag, "a", makeUser, "a", addTag, "a", addTag, "b"}, []string{addTag, "a a b", makeUser, "a"}},
		{"what is taken out between", []string{addTag, "a", dropTags, "a", addTag, "a"}, []string{addTag, "a", dropTags, "a", addTag, "a"}},
		{"a savepoint between", []string{makeUser, "a", `SAVEPOINT one`, "", makeUser, "b"}, []string{makeUser, "a", `SAVEPOINT one`, "", makeUser, "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var held []heldStatement
			for pair := range slices.Chunk(test.held, 2) {
				held = append(held, heldStatement{pair[0], []any{"app", pair[1], "x"}})
			}
			var got []string
			for _, statement := range new(insertTexts).groupInserts(held) {
				uids, grouped := statement.args[1].([]string)
				if !grouped {
					uids = []string{statement.args[1].(string)} //nolint:forcetypeassert // a single row's uid
				}
				got = append(got, ungrouped(statement.sql), strings.Join(uids, " "))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%q\nwant %q", got, test.want)
			}
		})
	}
}
