package directory

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMembersAreThoseOfTheObject(t *testing.T) {
	t.Parallel()
	for _, object := range []string{
		`{}`, `{"a":1}`, `{"a":"x","b":"y"}`, `{"a":{"b":[1,"}",{"c":"\""}]},"d":[],"e":{},"f":null,"g":true,"h":-1.5e3}`, `{"\u00e4\"":"ä","":""}`,
		`{"a":"}","b":"{[,:"}`, `{"a":[{"b":"]"}],"c":0}`, `{"a":{}}`, `{"a":[]}`, `{"a":"\\"}`,
	} {
		var want map[string]json.RawMessage
		if err := json.Unmarshal([]byte(object), &want); err != nil {
			t.Fatal(err)
		}
		if got := maps.Collect(members(json.RawMessage(object))); len(got)+len(want) > 0 && !cmp.Equal(got, want) {
			t.Errorf("%s has %s, want %s", object, got, want)
		}
	}
}

// TestTermsLeaveMetadataAlone: what is indexed is also handed to others, and is indexed again.
func TestTermsLeaveMetadataAlone(t *testing.T) {
	t.Parallel()
	const text = `{"city":["Lima","Oslo"],"x":1}`
	metadata := json.RawMessage(text)
	for range 2 {
		if terms := metadataTerms(metadata, []string{"city"}); len(terms) != 2 || string(metadata) != text {
			t.Fatalf("%s has the terms %v", metadata, terms)
		}
	}
}
