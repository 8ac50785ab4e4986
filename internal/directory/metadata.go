package directory

import (
	"bytes"
	"encoding/json"
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
