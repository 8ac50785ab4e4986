package httpapi

import (
	"bytes"
	"encoding/json"
	"iter"
	"reflect"
	"testing"

	"github.com/rollcall/rollcall/api"
)

// TestUsersAreEncodedLikeEverythingElse compares what is written without reflection to what encoding/json writes, for
// users with every field, and each field alone.
func TestUsersAreEncodedLikeEverythingElse(t *testing.T) {
	full := api.User{}
	users := []api.User{{}}
	for i := range reflect.TypeFor[api.User]().NumField() {
		var only api.User
		for _, user := range []*api.User{&full, &only} {
			field := reflect.ValueOf(user).Elem().Field(i)
			switch field.Interface().(type) {
			case string:
				field.SetString("Zoë \"Z\" \\ <b>&\n\x7f " + reflect.TypeFor[api.User]().Field(i).Name)
			case bool:
				field.SetBool(true)
			case int64:
				field.SetInt(1790000000 + int64(i))
			case []string:
				field.Set(reflect.ValueOf([]string{"one", "t\"wo", "drei ü"}))
			case json.RawMessage:
				field.SetBytes([]byte(`{"city":"Zürich","<":[1,2.5,null,true]}`))
			default:
				t.Fatalf("field %s has a type that this test does not know", reflect.TypeFor[api.User]().Field(i).Name)
			}
		}
		users = append(users, only)
	}
	users = append(users, full)

	for _, list := range [][]api.User{users, users[:1], {}} {
		compareList(t, list)
	}
	var answers []answer
	for _, user := range users {
		answers = append(answers, answer{data: user})
	}
	for _, answer := range answers {
		var got, want bytes.Buffer
		if err := encodeAnswer(&got, answer); err != nil {
			t.Fatal(err)
		}
		if err := encode(&want, api.Body[any]{Data: answer.data, Meta: answer.meta}); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() {
			t.Errorf("got\n%s\nwant\n%s", got.String(), want.String())
		}
	}
}

// compareList compares what is written of a page of users to what encoding/json writes.
func compareList(t *testing.T, users []api.User) {
	t.Helper()
	meta := &api.Meta{Pagination: &api.Pagination{Total: 3, Count: 2, PerPage: 2, CurrentPage: 1, TotalPages: 2}}
	sequence := func(yield func(*api.User) bool) {
		for i := range users {
			if !yield(&users[i]) {
				return
			}
		}
	}
	var got, want bytes.Buffer
	if err := encodeAnswer(&got, answer{data: iter.Seq[*api.User](sequence), meta: meta}); err != nil {
		t.Fatal(err)
	}
	if err := encode(&want, api.Body[any]{Data: users, Meta: meta}); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want.String())
	}
}

// TestPlain puts every byte at every place of texts of all lengths up to two words and a bit.
func TestPlain(t *testing.T) {
	for _, fill := range []byte{' ', '!', '~', 'a'} {
		for length := range 20 {
			text := bytes.Repeat([]byte{fill}, length)
			if !plain(text) {
				t.Errorf("%q is not plain", text)
			}
			for place := range text {
				for c := range 256 {
					text[place] = byte(c)
					if want := c >= ' ' && c < 0x7f && c != '"' && c != '\\'; plain(text) != want {
						t.Errorf("plain(%q) is %t", text, !want)
					}
				}
				text[place] = fill
			}
		}
	}
}
