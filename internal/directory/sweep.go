package directory

import (
	"bytes"
	"context"
	"errors"
)

// answersFor is how long an idempotency key is remembered, in seconds.
const answersFor = secondsPerDay

const sweepBatch = 500

// Sweep does what is due: it purges apps whose deletion is 30 days old, takes erased uids out of the change log seven
// days after their deletion, clears revoked tokens and expired API keys away, stores when keys were last used, forgets
// old idempotency keys, and drops the indexes of apps that nobody has listed for an hour. Calling it often is harmless.
func (d *Directory) Sweep(ctx context.Context) error {
	apps, err := d.allApps(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, app := range apps {
		if app.DeleteAt != 0 && app.DeleteAt <= d.Now() {
			failures = append(failures, d.purge(ctx, app.ID))
			continue
		}
		failures = append(failures, d.forgetAnswers(ctx, app.ID), d.clearTokens(ctx, app.ID), d.sweepKeys(ctx, app.ID))
	}
	failures = append(failures, d.eraseNotices(ctx))
	d.indexes.dropUnused(d.Now())
	return errors.Join(failures...)
}

func (d *Directory) purge(ctx context.Context, app AppID) error {
	return d.store.Update(ctx, app, nil, func(tx Writer) error {
		current, found, err := tx.App(app)
		if err != nil || !found || current.DeleteAt == 0 || current.DeleteAt > d.Now() {
			return err
		}
		return tx.DeleteApp(app)
	})
}

func (d *Directory) forgetAnswers(ctx context.Context, app AppID) error {
	for {
		forgotten := 0
		err := d.store.Update(ctx, app, nil, func(tx Writer) (err error) {
			forgotten, err = tx.DeleteAnswers(app, d.Now()-answersFor, sweepBatch)
			return err
		})
		if err != nil || forgotten < sweepBatch {
			return err
		}
	}
}

func (d *Directory) eraseNotices(ctx context.Context) error {
	for {
		var due []Tombstone
		err := d.store.View(ctx, func(tx Reader) (err error) {
			due, err = tx.TombstonesWithNotice(d.Now()-noticeFor, sweepBatch)
			return err
		})
		if err != nil || len(due) == 0 {
			return err
		}
		for _, tombstone := range due {
			if err := d.eraseNotice(ctx, tombstone); err != nil {
				return err
			}
		}
	}
}

func (d *Directory) eraseNotice(ctx context.Context, tombstone Tombstone) error {
	return d.store.Update(ctx, tombstone.App, nil, func(tx Writer) error {
		changes, err := tx.Changes(tombstone.App, tombstone.Revision-1, 1)
		if err != nil {
			return err
		}
		if len(changes) == 1 && changes[0].Revision == tombstone.Revision {
			if err := tx.EraseChange(tombstone.App, tombstone.Revision, tombstone.pseudonym()); err != nil {
				return err
			}
		}
		tombstone.Notice = false
		return tx.PutTombstone(tombstone)
	})
}

func (d *Directory) resealAnswers(ctx context.Context, app AppID) (int, error) {
	total := 0
	for after, more := []byte{}, true; more; {
		count, next := 0, after
		err := d.store.Update(ctx, app, nil, func(tx Writer) error {
			count, next = 0, after
			answers, err := tx.AnswersAfter(app, after, sweepBatch)
			if err != nil {
				return err
			}
			for _, answer := range answers {
				next = answer.Key
				if d.secrets.SealedByCurrent(answer.Sealed) {
					continue
				}
				opened, err := d.secrets.Open(answer.Sealed, answerContext(app))
				if err != nil {
					return err
				}
				answer.Sealed = d.secrets.Seal(opened, answerContext(app))
				if err := tx.PutAnswer(app, answer, nil); err != nil {
					return err
				}
				count++
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total, more, after = total+count, !bytes.Equal(next, after), next
	}
	return total, nil
}

// ResealSecrets re-hashes and re-encrypts, under the current master key, what was stored under an older one, and
// returns how many keys, auth tokens and kept answers that was. When it returns without an error, older master keys can
// be removed.
func (d *Directory) ResealSecrets(ctx context.Context) (int, error) {
	apps, err := d.allApps(ctx)
	if err != nil {
		return 0, err
	}
	resealed := 0
	for _, app := range apps {
		for _, reseal := range []func(context.Context, AppID) (int, error){d.resealKeys, d.resealTokens, d.resealAnswers} {
			count, err := reseal(ctx, app.ID)
			resealed += count
			if err != nil {
				return resealed, err
			}
		}
	}
	return resealed, nil
}

func (d *Directory) resealKeys(ctx context.Context, app AppID) (resealed int, err error) {
	err = d.store.Update(ctx, app, nil, func(tx Writer) error {
		resealed = 0
		keys, err := tx.Keys(app)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if d.secrets.SealedByCurrent(key.Sealed) {
				continue
			}
			if err := d.openKey(app, &key); err != nil {
				return err
			}
			key.Hash, key.Sealed = d.secrets.Hash(key.Text), d.secrets.Seal(key.Text, keyContext(app, key.ID))
			if err := tx.PutKey(app, key); err != nil {
				return err
			}
			resealed++
		}
		return nil
	})
	d.apps.drop(app)
	return resealed, err
}

func (d *Directory) resealTokens(ctx context.Context, app AppID) (int, error) {
	total := 0
	for after, more := TokenID(""), true; more; {
		count := 0
		next := after
		err := d.store.Update(ctx, app, nil, func(tx Writer) error {
			count, next = 0, after
			tokens, err := tx.TokensAfter(app, after, sweepBatch)
			if err != nil {
				return err
			}
			for _, token := range tokens {
				next = token.ID
				if d.secrets.SealedByCurrent(token.Sealed) {
					continue
				}
				if err := d.openToken(app, &token); err != nil {
					return err
				}
				token.Hash, token.Sealed = d.secrets.Hash(token.Text), d.secrets.Seal(token.Text, tokenContext(app, token.ID))
				if err := tx.PutToken(app, token); err != nil {
					return err
				}
				count++
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total, more, after = total+count, next != after, next
	}
	return total, nil
}
