package sqlstore

import (
	"fmt"
	"strings"

	"github.com/rollcall/rollcall/internal/directory"
)

func (t *tx) AppendChange(app directory.AppID, change directory.Change) (int64, error) {
	if app != t.app {
		return 0, fmt.Errorf("change appended to app %s outside its own update", app)
	}
	revision := t.revision + 1
	err := t.exec(`INSERT INTO changes (app, revision, at, actor, kind, subject, object, fields) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		string(app), revision, change.At, string(
			change.Actor,
		), string(change.Kind), change.Subject, change.Object, strings.Join(change.Fields, ","))
	if err != nil {
		return 0, err
	}
	change.Revision = revision
	t.revision = revision
	t.did.Changes = append(t.did.Changes, change)
	return revision, nil
}

const changeColumns = `revision, at, actor, kind, subject, object, fields`

func readChange(r row) directory.Change {
	change := directory.Change{
		Revision: r.integer(0), At: r.integer(1), Actor: directory.Actor(r.text(2)), Kind: directory.Kind(r.text(3)),
		Subject: r.text(4), Object: r.text(5),
	}
	if fields := r.text(6); fields != "" {
		change.Fields = strings.Split(fields, ",")
	}
	return change
}

func (t *tx) Changes(app directory.AppID, since int64, limit int) ([]directory.Change, error) {
	return all(t, `SELECT `+changeColumns+` FROM changes WHERE app = $1 AND revision > $2 ORDER BY revision LIMIT $3`,
		[]any{string(app), since, limit}, readChange)
}

func (t *tx) ChangesAbout(
	app directory.AppID, subject string, kinds []directory.Kind, since int64, limit int,
) ([]directory.Change, error) {
	s := statement{args: []any{string(app), subject, limit, since}}
	for i, column := range []string{`subject`, `object`} {
		if i > 0 {
			s.add(` UNION ALL `)
		}
		s.add(`SELECT ` + changeColumns + ` FROM changes WHERE app = $1 AND ` + column + ` = $2 AND ` + column + ` <> '' AND revision > $4 AND `)
		in(&s, `kind`, kinds)
	}
	return all(
		t, `SELECT `+changeColumns+` FROM (`+s.sql.String()+`) AS about ORDER BY revision LIMIT $3`, s.args, readChange,
	)
}

func (t *tx) Revision(app directory.AppID) (int64, error) {
	if app == t.app {
		return t.revision, nil
	}
	head, err := t.head(app)
	return head.revision, err
}

// head is where an app's change log is: its last revision, and a version that every commit raises by one.
type head struct{ revision, version int64 }

// head reads where an app's change log is. It outlives the app.
func (t *tx) head(app directory.AppID) (h head, err error) {
	_, err = t.first(`SELECT revision, version FROM revisions WHERE app = $1`, []any{string(app)}, func(r row) {
		h = head{r.integer(0), r.integer(1)}
	})
	return h, err
}

const putHead = `INSERT INTO revisions (app, revision, version) VALUES ($1, $2, $3)
	ON CONFLICT (app) DO UPDATE SET revision = excluded.revision, version = excluded.version`

func (t *tx) EraseChange(app directory.AppID, revision int64, pseudonym string) error {
	return t.exec(`UPDATE changes SET subject = $3 WHERE app = $1 AND revision = $2`, string(app), revision, pseudonym)
}

func (t *tx) EraseChanges(app directory.AppID, e directory.ErasedChanges) error {
	for _, column := range []string{"subject", "object"} {
		s := statement{args: []any{string(app), e.Subject, string(e.Actor), string(e.ActorBecomes), e.Becomes, e.Keep}}
		s.add(`UPDATE changes SET actor = CASE WHEN actor = $3 THEN $4 ELSE actor END, ` + column + ` = $5
			WHERE app = $1 AND ` + column + ` = $2 AND ` + column + ` <> '' AND revision <> $6 AND `)
		in(&s, `kind`, e.Kinds)
		if err := t.exec(s.sql.String(), s.args...); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) PutTombstone(tombstone directory.Tombstone) error {
	notice := 0
	if tombstone.Notice {
		notice = 1
	}
	return t.exec(`INSERT INTO tombstones (app, hash, at, revision, notice) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (app, hash, at) DO UPDATE SET revision = excluded.revision, notice = excluded.notice`,
		string(tombstone.App), tombstone.Hash, tombstone.At, tombstone.Revision, notice)
}

const tombstoneColumns = `app, hash, at, revision, notice`

func readTombstone(r row) directory.Tombstone {
	return directory.Tombstone{
		App: directory.AppID(r.text(0)), Hash: r.text(1), At: r.integer(2), Revision: r.integer(3), Notice: r.integer(4) == 1,
	}
}

func (t *tx) Tombstones() ([]directory.Tombstone, error) {
	return all(t, `SELECT `+tombstoneColumns+` FROM tombstones ORDER BY at, app, hash`, nil, readTombstone)
}

func (t *tx) TombstonesWithNotice(before int64, limit int) ([]directory.Tombstone, error) {
	return all(
		t, `SELECT `+tombstoneColumns+` FROM tombstones WHERE notice = 1 AND at < $1 ORDER BY at LIMIT $2`,
		[]any{before, limit}, readTombstone,
	)
}

func (t *tx) Answer(app directory.AppID, key []byte) (answer directory.Answer, found bool, err error) {
	found, err = t.first(`SELECT `+answerColumns+` FROM answers WHERE app = $1 AND key = $2`, []any{string(app), key},
		func(r row) { answer = readAnswer(r) })
	return answer, found, err
}

const answerColumns = `key, sealed, at`

func readAnswer(r row) directory.Answer {
	return directory.Answer{Key: r.blob(0), Sealed: r.blob(1), At: r.integer(2)}
}

func (t *tx) AnswersAfter(app directory.AppID, after []byte, limit int) ([]directory.Answer, error) {
	return all(
		t, `SELECT `+answerColumns+` FROM answers WHERE app = $1 AND key > $2 ORDER BY key LIMIT $3`,
		[]any{string(app), after, limit}, readAnswer,
	)
}

func (t *tx) PutAnswer(app directory.AppID, answer directory.Answer, about []directory.UID) error {
	err := t.exec(`INSERT INTO answers (app, key, sealed, at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (app, key) DO UPDATE SET sealed = excluded.sealed, at = excluded.at`, string(app), answer.Key, answer.Sealed, answer.At)
	for _, uid := range about {
		if err != nil {
			return err
		}
		err = t.exec(`INSERT INTO answer_subjects (app, uid, key) VALUES ($1, $2, $3) ON CONFLICT (app, uid, key) DO NOTHING`,
			string(app), string(uid), answer.Key)
	}
	return err
}

func (t *tx) deleteAnswers(app directory.AppID, keys [][]byte) error {
	for _, key := range keys {
		for _, table := range []string{"answer_subjects", "answers"} {
			if err := t.exec(`DELETE FROM `+table+` WHERE app = $1 AND key = $2`, string(app), key); err != nil {
				return err
			}
		}
	}
	return nil
}

func readKey(r row) []byte { return r.blob(0) }

func (t *tx) DeleteAnswersAbout(app directory.AppID, uid directory.UID) error {
	keys, err := all(t, `SELECT key FROM answer_subjects WHERE app = $1 AND uid = $2`, []any{string(app), string(uid)}, readKey)
	if err != nil {
		return err
	}
	return t.deleteAnswers(app, keys)
}

func (t *tx) DeleteAnswers(app directory.AppID, before int64, limit int) (int, error) {
	keys, err := all(t, `SELECT key FROM answers WHERE app = $1 AND at < $2 ORDER BY at LIMIT $3`, []any{string(app), before, limit}, readKey)
	if err != nil {
		return 0, err
	}
	return len(keys), t.deleteAnswers(app, keys)
}
