package directory

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// privateKey is the reserved key of user metadata that only fullAccess keys may see (contract rest.md section 1.1).
const privateKey = "@private"

// show returns a user as the caller may see it, whoever that user is: users do not see their own private metadata
// either.
func (c Caller) show(user User) User {
	if !c.Private {
		user.Metadata = PublicMetadata(user.Metadata)
	}
	return user
}

// PublicMetadata returns metadata without its private part; nothing when nothing is left.
func PublicMetadata(metadata json.RawMessage) json.RawMessage {
	public, private := splitPrivate(metadata)
	if private == nil {
		return metadata
	}
	return public
}

func splitPrivate(metadata json.RawMessage) (public, private json.RawMessage) {
	var fields map[string]json.RawMessage
	plain := !bytes.Contains(metadata, []byte(privateKey)) && !bytes.Contains(metadata, []byte(`\u`)) // which could spell it
	if plain || json.Unmarshal(metadata, &fields) != nil {
		return metadata, nil
	}
	private = fields[privateKey]
	if private == nil {
		return metadata, nil
	}
	delete(fields, privateKey)
	if len(fields) == 0 {
		return nil, private
	}
	public, err := json.Marshal(fields)
	if err != nil {
		return nil, private // only public fields that were valid JSON a moment ago are left out
	}
	return public, private
}

// keepingPrivate returns the patch as a caller that cannot see private metadata means it: what such a caller sends
// under the private key is dropped, and the private part the user has is kept.
func (p UserPatch) keepingPrivate(user User) UserPatch {
	if p.Metadata == nil {
		return p
	}
	_, private := splitPrivate(user.Metadata)
	merged, sent := splitPrivate(*p.Metadata)
	if private == nil && sent == nil {
		return p
	}
	if private != nil {
		fields := map[string]json.RawMessage{}
		if len(merged) > 0 && json.Unmarshal(merged, &fields) != nil {
			return p // not an object: refused by the checks
		}
		fields[privateKey] = private
		encoded, err := json.Marshal(fields)
		if err != nil {
			return p
		}
		merged = encoded
	}
	p.Metadata = &merged
	return p
}

// mergeMembers returns an object with members put into it, each in place of the one with its name. The order of the
// object's members stays, and what is new is behind them. A member that is null is taken out.
func mergeMembers(object, with json.RawMessage) (json.RawMessage, error) {
	names, merged, err := membersOf(object)
	if err != nil {
		return nil, err
	}
	more, values, err := membersOf(with)
	if err != nil {
		return nil, err
	}
	for _, name := range more {
		if _, there := merged[name]; !there {
			names = append(names, name)
		}
		merged[name] = values[name]
	}
	text := []byte{'{'}
	for _, name := range names {
		value := bytes.TrimSpace(merged[name])
		if string(value) == "null" && values[name] != nil {
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		if text, err = jsontext.AppendQuote(text, name); err != nil {
			return nil, err
		}
		text = append(append(text, ':'), value...)
	}
	if len(text) == 1 {
		return nil, nil
	}
	return append(text, '}'), nil
}

// membersOf returns the members of an object, and their names in its order. Nothing is an object without members.
func membersOf(object json.RawMessage) (names []string, values map[string]json.RawMessage, err error) {
	values = map[string]json.RawMessage{}
	if len(bytes.TrimSpace(object)) == 0 {
		return nil, values, nil
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(object))
	if opening, err := decoder.ReadToken(); err != nil || opening.Kind() != '{' {
		return nil, nil, errors.Join(errNotObject, err)
	}
	for decoder.PeekKind() == '"' {
		name, err := decoder.ReadToken()
		if err != nil {
			return nil, nil, err
		}
		text := name.String()
		value, err := decoder.ReadValue()
		if err != nil {
			return nil, nil, err
		}
		names, values[text] = append(names, text), json.RawMessage(value.Clone())
	}
	_, err = decoder.ReadToken()
	return names, values, err
}

var errNotObject = errors.New("not a JSON object")
