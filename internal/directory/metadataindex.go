package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// MetadataKey is a member of users' metadata by whose values lists can be filtered, once it has been indexed.
type MetadataKey struct {
	Key string `json:"key"`
	// Ready says that every user is in the index. Until then it is filled in the order of uids, and has come to IndexedTo.
	Ready     bool `json:"ready,omitempty"`
	IndexedTo UID  `json:"indexedTo,omitempty"`
	// Dropped says that the key is declared no more, and that what is left of it in the index is being removed.
	Dropped bool `json:"dropped,omitempty"`
}

// MetadataValue is a value of a declared key, as the index has it: a text as it is, numbers and booleans as JSON has them. A list
// has several.
type MetadataValue struct{ Key, Value string }

// MetadataFilter selects users by the values of a declared key: any of them.
type MetadataFilter struct {
	Key    string
	Values []string
}

// maxMetadataValue is how many bytes of a text are indexed: longer ones are not found.
const maxMetadataValue = 256

// maxMetadataValues is how many items of a list are indexed.
const maxMetadataValues = 20

// metadataValues returns what the index has of metadata for some keys, without repetition.
func metadataValues(metadata json.RawMessage, wanted func(key string) bool) []MetadataValue {
	var fields map[string]json.RawMessage
	if len(metadata) == 0 || json.Unmarshal(metadata, &fields) != nil {
		return nil
	}
	var values []MetadataValue
	for key, raw := range fields {
		if !wanted(key) {
			continue
		}
		items := []json.RawMessage{raw}
		if raw[0] == '[' && json.Unmarshal(raw, &items) != nil {
			continue
		}
		for _, item := range items[:min(len(items), maxMetadataValues)] {
			if text, ok := indexedText(item); ok && !slices.Contains(values, MetadataValue{key, text}) {
				values = append(values, MetadataValue{key, text})
			}
		}
	}
	return values
}

func indexedText(raw json.RawMessage) (text string, ok bool) {
	switch raw = bytes.TrimSpace(raw); {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || raw[0] == 'n':
		return "", false
	case raw[0] == '"':
		if json.Unmarshal(raw, &text) != nil {
			return "", false
		}
	default:
		text = string(raw)
	}
	return text, len(text) <= maxMetadataValue && !strings.Contains(text, "\x00")
}

// selects reports whether metadata has one of the values.
func (f MetadataFilter) selects(metadata json.RawMessage) bool {
	values := metadataValues(metadata, func(key string) bool { return key == f.Key })
	return slices.ContainsFunc(values, func(value MetadataValue) bool { return slices.Contains(f.Values, value.Value) })
}

// moveMetadata keeps the index up with a user's metadata.
func (l *logbook) moveMetadata(uid UID, before, after json.RawMessage) error {
	if len(before) == 0 && len(after) == 0 || bytes.Equal(before, after) {
		return nil
	}
	app, _, err := l.tx.App(l.app)
	if err != nil || len(app.Settings.MetadataKeys) == 0 {
		return err
	}
	declared := func(key string) bool {
		return slices.ContainsFunc(app.Settings.MetadataKeys, func(k MetadataKey) bool { return k.Key == key && !k.Dropped })
	}
	return l.tx.MoveUserMetadata(l.app, uid, metadataValues(before, declared), metadataValues(after, declared))
}

// checkMetadataKeys checks the keys that an app declares.
func (d *Directory) checkMetadataKeys(wrong *FieldErrors, keys []string) {
	if len(keys) > d.limits.MetadataKeys {
		wrong.Add("metadataKeys", "The metadataKeys may not be more than %d.", d.limits.MetadataKeys)
	}
	for i, key := range keys {
		if key == "" || key[0] == '@' || len(key) > 64 || hasControl(key, "") || strings.ContainsAny(key, "[]") || slices.Contains(keys[:i], key) {
			wrong.Add("metadataKeys", "The metadataKeys must be different names of at most 64 bytes, without brackets and control characters and not beginning with @.")
			return
		}
	}
}

// declareKeys returns the keys with exactly those declared that are wanted.
func declareKeys(keys []MetadataKey, wanted []string) []MetadataKey {
	var declared []MetadataKey
	for _, key := range keys {
		switch {
		case !slices.Contains(wanted, key.Key):
			key = MetadataKey{Key: key.Key, Dropped: true}
		case key.Dropped:
			key = MetadataKey{Key: key.Key} // what is left in the index may be outdated: see indexNext
		}
		declared = append(declared, key)
	}
	for _, key := range wanted {
		if !slices.ContainsFunc(keys, func(k MetadataKey) bool { return k.Key == key }) {
			declared = append(declared, MetadataKey{Key: key})
		}
	}
	return declared
}

// checkMetadataFilters refuses filters by keys that are not declared, or not indexed yet.
func (s AppSettings) checkMetadataFilters(filters []MetadataFilter) error {
	var wrong FieldErrors
	for _, filter := range filters {
		field := "metadata[" + filter.Key + "]"
		i := slices.IndexFunc(s.MetadataKeys, func(k MetadataKey) bool { return k.Key == filter.Key && !k.Dropped })
		switch {
		case i < 0:
			wrong.Add(field, "The key is not declared. Put it into the metadataKeys of the app's settings to filter by it.")
		case !s.MetadataKeys[i].Ready:
			wrong.Add(field, "The key was declared a moment ago and is still being indexed. Try again.")
		}
	}
	return wrong.Err()
}

// indexBatch is how many users, or rows of the index, one transaction of the indexing looks at.
const indexBatch = 500

// IndexMetadata brings the indexes of all apps up to the keys that they declare. It is for one caller at a time.
func (d *Directory) IndexMetadata(ctx context.Context) error {
	apps, err := d.allApps(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, app := range apps {
		for more := true; more && err == nil; {
			more, err = d.indexNext(ctx, app.ID)
		}
		failures, err = append(failures, err), nil
	}
	return errors.Join(failures...)
}

// MetadataDeclared is sent to when there is something to index.
func (d *Directory) MetadataDeclared() <-chan struct{} { return d.metadataDeclared }

// indexNext does the next piece of an app's indexing, and returns whether there may be more. A dropped key goes whole before
// any other is filled, so that a key declared again finds nothing of its past.
func (d *Directory) indexNext(ctx context.Context, app AppID) (more bool, err error) {
	err = d.store.Update(ctx, app, nil, func(tx Tx) error {
		more = false
		current, found, err := tx.App(app)
		if err != nil || !found {
			return err
		}
		keys := slices.Clone(current.Settings.MetadataKeys)
		current.Settings.MetadataKeys = keys
		if i := slices.IndexFunc(keys, func(k MetadataKey) bool { return k.Dropped || !k.Ready && k.IndexedTo == "" }); i >= 0 {
			removed, err := tx.DeleteMetadataValues(app, keys[i].Key, indexBatch)
			if err != nil {
				return err
			}
			more = true
			switch {
			case removed == indexBatch:
				return nil
			case keys[i].Dropped:
				current.Settings.MetadataKeys = slices.Delete(keys, i, i+1)
				return tx.PutApp(current)
			}
		}
		i := slices.IndexFunc(keys, func(k MetadataKey) bool { return !k.Ready })
		if i < 0 {
			return nil
		}
		more = true
		if err := d.fillIndex(tx, app, &keys[i]); err != nil {
			return err
		}
		return tx.PutApp(current)
	})
	d.apps.drop(app)
	return more, err
}

// fillIndex puts the next users into the index of a key.
func (d *Directory) fillIndex(tx Tx, app AppID, key *MetadataKey) error {
	query := UserQuery{App: app, Activity: ActiveOrDeactivated, Order: ByUID, Limit: indexBatch}
	if key.IndexedTo != "" {
		query.After = &Position{UID: key.IndexedTo}
	}
	users, err := tx.Users(query)
	if err != nil {
		return err
	}
	for _, user := range users {
		values := metadataValues(user.Metadata, func(name string) bool { return name == key.Key })
		if err := tx.MoveUserMetadata(app, user.UID, nil, values); err != nil {
			return err
		}
		key.IndexedTo = user.UID
	}
	if len(users) < indexBatch {
		*key = MetadataKey{Key: key.Key, Ready: true}
	}
	return nil
}
