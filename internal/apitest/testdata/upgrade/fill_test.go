package apitest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// people are the users who are made one by one, by uid and name.
var people = [][2]string{
	{"ada", "Ada Abara"}, {"strauss", "Johann Strauß"}, {"yilmaz", "Ayşe Yılmaz"}, {"lukasz", "Łukasz Nowak"},
	{"soren", "Søren Kierkegaard"}, {"dang", "Đặng Thùy Trâm"}, {"odysseus", "Οδυσσεύς"}, {"anne-marie", "Anne-Marie Smith-Jones"},
	{"bob", "(Bob)"}, {"max", "🔥Max"}, {"muller", "Dr.Müller"}, {"sartre", "jean_paul.sartre"}, {"obrien", "Conan O’Brien"},
	{"muhammad", "\u200fمحمد"}, {"alireza", "علی\u200cرضا"}, {"taro", "山田太郎"}, {"zoe", "Zoë Zola"}, {"oyvind", "Øyvind"},
	{"ivan", "ıvan"}, {"istanbul", "İstanbul"}, {"zoe-nfd", "Zoe\u0308 Decomposed"}, {"ivan-ru", "Иван Петров"}, {"yuri", "Юрий Ёлкин"},
	{"chloe", "Chloé d’Arc"}, {"jose", "José Ángel Núñez"}, {"nguyen", "Nguyễn Văn Anh"}, {"devi", "देवी शर्मा"}, {"somchai", "สมชาย"},
	{"kim", "김민준"}, {"david-he", "דָּוִד"}, {"aegir", "Ægir Þórsson"}, {"oe", "Œdipe"}, {"ij", "IJsbrand van Dĳk"}, {"ffi", "ﬃ ligature"},
	{"fullwidth", "Ｆｕｌｌ Ｗｉｄｔｈ"}, {"family", "👨‍👩‍👧 Family"}, {"digits", "42 Forty Two"}, {"dots", "A. B. C. Smith"}, {"quote", "\"Quoted\" Name"},
	{"percent", "100% Real_User"}, {"backslash", `Back\slash`}, {"spaces", "Many   Inner   Spaces"}, {"upper", "UPPER CASE"}, {"lower", "lower case"},
	{"astral", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢"}, {"georgian", "ნინო"}, {"armenian", "Անի"}, {"tamil", "தமிழ்"}, {"amharic", "አበበ"}, {"long", strings.Repeat("Long ", 19) + "Name"},
}

// filler fills a server over its own API, and keeps what it was answered.
type filler struct {
	t *testing.T
	*upgradeFixture
	s     *apitest.Server
	clock *apitest.Clock
	uids  []string
	// visits are how often each user was online.
	visits map[string]int
}

// do makes a call that has to succeed, all of its items included. Time passes before each.
func (f *filler) do(by, method, path, body string) map[string]any {
	f.t.Helper()
	f.clock.Advance(7 * time.Second)
	status, answer := upgradeCall(f.t, f.s.URL, f.Callers[by], method, path, []byte(body))
	if status != http.StatusOK || bytes.Contains(answer, []byte(`"success":false`)) || bytes.Contains(answer, []byte(`"status":"failed"`)) {
		f.t.Fatalf("%s %s %s: %d %s", method, path, body, status, answer)
	}
	return decoded[map[string]any](f.t, answer)
}

func (f *filler) user(uid string, fields map[string]any) {
	f.t.Helper()
	f.uids = append(f.uids, uid)
	fields["uid"] = uid
	f.do("key", "POST", "/v3/users", string(jsonOf(f.t, fields)))
}

// token mints an auth token and makes its user a caller.
func (f *filler) token(by, caller, uid, body string) {
	f.t.Helper()
	data := f.do(by, "POST", "/v3/users/"+uid+"/auth_tokens", body)["data"].(map[string]any)
	f.Callers[caller] = map[string]string{"appId": f.Callers[by]["appId"], "authToken": data["authToken"].(string)}
}

// app makes an app with two callers: its keys.
func (f *filler) app(name, id string) {
	f.t.Helper()
	data := f.do("operator", "POST", "/v3/apps", fmt.Sprintf(`{"name":%q,"id":%q,"region":"eu","owner":"ops@example.com","skipSampleData":true}`, name, id))["data"].(map[string]any)
	for text, key := range data["apiKeys"].(map[string]any) {
		if key.(map[string]any)["scope"] == "fullAccess" {
			f.Callers[id+" key"] = map[string]string{"appId": id, "apikey": text}
		}
	}
}

// question is a question without a body.
func (f *filler) question(how how, by, path string) {
	f.Questions = append(f.Questions, upgradeQuestion{By: by, How: how, Path: path})
}

// declare sets the metadata keys of the first app and waits until they are indexed.
func (f *filler) declare(keys string) {
	f.t.Helper()
	path := "/v3/apps/" + f.Credentials.AppID + "/settings"
	f.do("operator", "POST", path, `{"metadataKeys":`+keys+`}`)
	await(f.t, "the metadata keys are indexed", func() bool {
		_, answer := upgradeCall(f.t, f.s.URL, f.Callers["operator"], "GET", path, nil)
		return !bytes.Contains(answer, []byte("metadataKeysIndexing"))
	})
}

// online has a user online for a while.
func (f *filler) online(uid, device string) {
	f.t.Helper()
	f.visits[uid]++
	socket := f.s.Login(f.t, apitest.Login{UID: uid, Device: device})
	f.clock.Advance(90 * time.Second)
	socket.Close(1000, "")
	path := "/v3/users/" + uid + "/presence/timeline"
	await(f.t, uid+" goes offline", func() bool {
		_, answer := upgradeCall(f.t, f.s.URL, f.Callers["key"], "GET", path, nil)
		return bytes.Count(answer, []byte(`"offline"`)) == f.visits[uid]
	})
}

func (f *filler) fill() {
	f.Callers = map[string]map[string]string{
		"key":      {"appId": f.Credentials.AppID, "apikey": f.Credentials.RestAPIKey},
		"auth key": {"appId": f.Credentials.AppID, "apikey": f.Credentials.AuthKey},
		"operator": {"key": f.Credentials.ManagementKey, "secret": f.Credentials.ManagementSecret},
	}
	f.roles()
	f.users()
	f.erase()
	f.clock.Advance(9 * 24 * time.Hour)
	f.restart() // the first erased users are taken out of the change log
	f.relate()
	f.logins()
	f.otherApps()
	f.do("key", "DELETE", "/v3/users/gone-2", `{"permanent":true}`)
	for _, caller := range []string{"ada", "gus", "fay"} {
		f.do(caller, "GET", "/v3/me", "")
	}
}

func (f *filler) roles() {
	for _, role := range []string{
		`{"role":"teacher","name":"Teacher","description":"Teaches.","metadata":{"color":"blue"},"settings":{"listUsers":"all"}}`,
		`{"role":"student","name":"Schüler"}`, `{"role":"guest","name":"Guest"}`, `{"role":"temp","name":"For now"}`,
	} {
		f.do("key", "POST", "/v3/roles", role)
	}
	f.do("key", "PUT", "/v3/roles/student/permissions", `{"permissions":{"listUsers.mode":"friends"}}`)
	f.do("key", "PUT", "/v3/roles/guest/permissions", `{"permissions":{"listUsers.allowedRoles":["teacher"],"getUserDetails.allowedRoles":["teacher","student"]}}`)
	f.do("key", "POST", "/v3/roles/guest/restrictedfeatures", `{"featuresToRestrict":["u.blockUser","createMessage"]}`)
	f.do("key", "PUT", "/v3/roles/teacher", `{"name":"Teaching staff"}`)
}

func (f *filler) users() {
	roles, cities := []string{"default", "teacher", "student", "guest", "temp"}, []string{"Lisbon", "Porto, Norte", "Faro", "Malmö", "Malmo\u0308"}
	for i, person := range people {
		if i == len(people)/2 {
			f.declare(`["city","level","teams"]`)
			f.clock.Advance(26 * time.Hour)
		}
		tags := []string{"everybody"}
		if i%10 == 0 {
			tags = append(tags, "staff")
		}
		switch person[0] {
		case "zoe":
			tags = append(tags, "rare", "with, comma")
		case "ada":
			tags = append(tags, "cafe\u0301")
		case "bob":
			tags = append(tags, "caf\u00e9")
		}
		fields := map[string]any{"name": person[1], "role": roles[i%len(roles)], "tags": tags}
		if person[0] == "ada" {
			fields["role"] = "default"
		}
		if i%3 == 0 {
			fields["avatar"] = "https://cdn.example.com/" + person[0] + ".png"
		}
		if i%4 == 0 {
			fields["link"] = "https://example.com/~" + person[0]
		}
		if i%5 == 0 {
			fields["statusMessage"] = "Grüße von " + person[1]
		}
		if i%2 == 0 {
			fields["metadata"] = map[string]any{
				"city": cities[i/2%len(cities)], "level": i % 7, "teams": []string{"all", fmt.Sprint("t", i%3)}, "nested": map[string]any{"a": []any{1, 2.5, nil, true}},
				"@private": map[string]any{"email": person[0] + "@example.com", "city": "Atlantis"},
			}
		}
		f.user(person[0], fields)
	}
	f.user("gus", map[string]any{"name": "Gus Guest", "role": "guest"})
	f.user("fay", map[string]any{"name": "Fay Student", "role": "student"})
	f.user("one", map[string]any{"name": "Level one", "metadata": json.RawMessage(`{"level":1.0,"city":"Lisbon"}`)})
	f.user("upserted", map[string]any{"name": "Soon another"})
	f.do("key", "PUT", "/v3/users/UPSERTED?upsert=true", `{"name":"Upserted User"}`)

	// From another system, with their own times.
	imported, rows := map[string]any{}, []any{}
	for i := range 30 {
		uid := fmt.Sprintf("import-%02d", i)
		f.uids = append(f.uids, uid)
		row := map[string]any{"uid": uid, "name": fmt.Sprintf("Import %d Person", i%9), "createdAt": 1500000000 + i/2*86400, "tags": []string{"imported", "everybody"}}
		if i%3 == 0 {
			row["updatedAt"] = 1600000000 + i*1000
		}
		if i%4 == 0 {
			row["lastActiveAt"] = 1650000000 + i/8*5000
		}
		if i%10 == 9 {
			row["deactivatedAt"] = 1700000000 + i
		}
		imported[uid] = row
	}
	f.do("key", "POST", "/v3/data_import/users", string(jsonOf(f.t, map[string]any{"users": imported})))
	for i := range 40 {
		uid := fmt.Sprintf("batch_%02d", i)
		f.uids = append(f.uids, uid)
		row := map[string]any{"uid": uid, "name": fmt.Sprintf("Batch %c. Müller-%d", 'A'+i%5, i), "role": roles[i%4], "metadata": map[string]any{"city": cities[i%5], "level": fmt.Sprint(i % 3)}}
		if i%2 == 0 {
			row["createdAt"], row["lastActiveAt"] = 1400000000+i/4*1000, 1660000000+i/6*100
		}
		if i%7 == 0 {
			row["tags"] = []string{"staff", fmt.Sprint("batch-", i)}
		}
		rows = append(rows, row)
	}
	f.do("key", "POST", "/v3/users/batch", string(jsonOf(f.t, map[string]any{"users": rows})))
	f.declare(`["city","level"]`)

	for i, uid := range []string{"zoe", "batch_03", "import-05", "kim", "devi", "batch_04"} {
		f.do("key", "PUT", "/v3/users/"+uid, fmt.Sprintf(`{"statusMessage":"updated %d","metadata":{"city":"Faro","@private":{"n":%d}}}`, i, i))
	}
	f.do("key", "PUT", "/v3/users/max", `{"name":"🔥Max Power","tags":["everybody","renamed"],"unset":["avatar"]}`)
	f.do("auth key", "PUT", "/v3/users/bob", `{"statusMessage":"by an authOnly key"}`)
	f.do("key", "DELETE", "/v3/roles/temp", "")
	f.do("key", "DELETE", "/v3/users", `{"uidsToDeactivate":["long","lower","batch_10","kim"]}`)
	f.do("key", "DELETE", "/v3/users/upper", "")
	f.do("key", "PUT", "/v3/users", `{"uidsToActivate":["kim"]}`)
}

// erase deletes users for good; one of them comes back as another person.
func (f *filler) erase() {
	for _, uid := range []string{"gone-1", "gone-2", "back"} {
		f.user(uid, map[string]any{"name": "Gone Person", "tags": []string{"everybody"}})
		f.do("key", "POST", "/v3/users/"+uid+"/friends", `{"accepted":["ada"]}`)
		f.do("key", "POST", "/v3/users/ada/auth_tokens", `{}`)
	}
	f.token("key", "erased", "gone-1", `{}`)
	f.do("key", "DELETE", "/v3/users/gone-1", `{"permanent":true}`)
	f.do("key", "DELETE", "/v3/users/back", `{"permanent":true}`)
	f.user("back", map[string]any{"name": "Somebody else"})
	f.uids = slices.Compact(slices.Sorted(slices.Values(f.uids)))
}

func (f *filler) relate() {
	f.do("key", "POST", "/v3/users/ada/blockedusers", `{"blockedUids":["bob","kim","batch_05"]}`)
	f.do("key", "POST", "/v3/users/zoe/blockedusers", `{"blockedUids":["ada"]}`)
	f.do("key", "POST", "/v3/users/bob/blockedusers", `{"blockedUids":["ada","fay"]}`)
	f.do("key", "DELETE", "/v3/users/ada/blockedusers", `{"blockedUids":["kim"]}`)
	f.do("key", "POST", "/v3/users/ada/friends", `{"accepted":["strauss","taro","oyvind","import-01","georgian"]}`)
	f.do("key", "POST", "/v3/users/fay/friends", `{"accepted":["zoe","ada","batch_07","muhammad"]}`)
	f.do("key", "DELETE", "/v3/users/ada/friends", `{"friends":["import-01"]}`)
	f.do("key", "DELETE", "/v3/users/georgian", "")
	f.do("key", "POST", "/v3/users/gus/friend_requests", `{"uids":["ada","soren","dang"]}`)
	f.do("key", "POST", "/v3/users/ada/friend_requests", `{"uids":["lukasz","yuri"]}`)
	f.do("key", "PUT", "/v3/users/dang/friend_requests", `{"accept":["gus"]}`)
	f.do("key", "POST", "/v3/relations/batch", `{"relations":[{"type":"block","uid":"devi","other":"ada","at":1600000000},{"type":"friend","uid":"ada","other":"chloe","at":1600000001},{"type":"friendRequest","uid":"jose","other":"fay","at":1600000002}]}`)
}

func (f *filler) logins() {
	f.token("key", "ada", "ada", `{"platform":"WEB","deviceId":"dev-1","appInfo":{"version":"2.1.0"}}`)
	f.token("key", "gus", "gus", `{}`)
	f.token("auth key", "fay", "fay", `{}`)
	f.token("key", "revoked", "fay", `{}`)
	f.token("key", "logged out", "zoe", `{}`)
	f.token("key", "deactivated", "strauss", `{}`)
	f.do("revoked", "GET", "/v3/me", "")
	f.do("key", "DELETE", "/v3/users/fay/auth_tokens/"+f.Callers["revoked"]["authToken"], "")
	f.do("logged out", "DELETE", "/v3/me", "")
	f.do("fay", "PUT", "/v3/me", `{"statusMessage":"by herself"}`)
	f.do("ada", "POST", "/v3/blockedusers", `{"blockedUids":["family"]}`)
	for i, key := range []string{`{"name":"Billing","scope":"fullAccess"}`, `{"name":"Signup","scope":"authOnly"}`, `{"name":"Old","scope":"fullAccess"}`} {
		data := f.do("key", "POST", "/v3/apikeys", key)["data"].(map[string]any)
		f.Callers[fmt.Sprint("key ", i)] = map[string]string{"appId": f.Credentials.AppID, "apikey": data["apiKey"].(string)}
	}
	f.token("key 2", "by a deleted key", "odysseus", `{}`)
	f.do("key", "DELETE", "/v3/apikeys/"+f.Callers["key 2"]["apikey"], "")
	f.do("ada", "PUT", "/v3/me", `{"platform":"WEB","deviceId":"dev-1"}`)
	f.online("ada", "phone")
	f.clock.Advance(3 * time.Hour)
	f.online("soren", "desk")
	f.online("ada", "tablet")
	f.online("zoe", "desk")
	f.clock.Advance(25 * time.Hour)
	for _, caller := range []string{"ada", "gus"} {
		f.do(caller, "PUT", "/v3/me", `{"platform":"IOS"}`)
	}
	f.online("soren", "desk")
	f.do("key", "DELETE", "/v3/users/strauss", "")
	f.Callers["on behalf of ada"] = map[string]string{"appId": f.Credentials.AppID, "apikey": f.Credentials.RestAPIKey, "onBehalfOf": "ada"}
}

func (f *filler) otherApps() {
	f.app("Zweite Schule", "second")
	f.app("Attic", "attic")
	for _, app := range []string{"second", "attic"} {
		var rows []any
		for i := range 20 {
			rows = append(rows, map[string]any{"uid": fmt.Sprintf("ada%02d", i), "name": fmt.Sprintf("Ada %d of %s", i, app), "createdAt": 1500000000 + i*i%7, "tags": []string{"everybody"}})
		}
		rows = append(rows, map[string]any{"uid": "ada", "name": "Another Ada"})
		f.do(app+" key", "POST", "/v3/users/batch", string(jsonOf(f.t, map[string]any{"users": rows})))
		f.do(app+" key", "DELETE", "/v3/users/ada03", "")
		f.do(app+" key", "DELETE", "/v3/users/ada04", `{"permanent":true}`)
		f.do(app+" key", "POST", "/v3/users/ada/blockedusers", `{"blockedUids":["ada05"]}`)
	}
	f.token("second key", "second ada", "ada", `{}`)
	f.token("attic key", "attic ada", "ada", `{}`)
	f.do("operator", "POST", "/v3/apps/second/settings", `{"denyUserCreationByAuthOnlyKeys":true}`)
	f.do("operator", "POST", "/v3/apps/second/collaborators", `{"email":"bruno@example.com","name":"Bruno Costa","role":"developer"}`)
}

// askAll asks about everything, and keeps the answers.
func (f *filler) askAll() {
	for _, list := range []string{
		"", "sortOrder=asc", "sortBy=createdAt&sortOrder=desc", "sortBy=updatedAt", "sortBy=updatedAt&sortOrder=asc", "sortBy=lastActiveAt",
		"sortBy=lastActiveAt&sortOrder=asc", "onlyDeactivated=true", "withDeactivated=true", "withDeactivated=true&sortBy=lastActiveAt",
		"tags=everybody", "tags=staff", "tags=rare", "tags=staff,rare,renamed", "tags=with%2C%20comma", "roles=teacher", "roles=student,guest", "role=default",
		"metadata[city]=Lisbon", "metadata[city]=Porto%2C%20Norte", "metadata[city]=Faro,Lisbon", "metadata[city]=Faro&metadata[level]=1,2", "metadata[teams]=all",
		"updatedAt=1767400000", "updatedAt=1768200000&affix=prepend", "uids=ada,zoe,long,gone-1,nobody",
		"tags=everybody&roles=teacher", "tags=everybody&sortBy=lastActiveAt", "roles=default&sortBy=updatedAt",
	} {
		f.question(walkedList, "key", "/v3/users?"+list)
		f.question(pagedList, "key", "/v3/users?"+list)
	}
	for _, list := range []string{
		"sortBy=name", "sortBy=name&sortOrder=desc", "sortBy=status", "tags=everybody&sortBy=name", "roles=teacher&sortBy=status", "withDeactivated=true&sortBy=name",
	} {
		f.question(listMembers, "key", "/v3/users?"+list)
	}
	for _, list := range []string{
		"searchKey=an", "searchKey=ada", "searchKey=import", "searchKey=Per", "searchKey=zo%C3%AB", "searchKey=zoe", "searchKey=str", "searchKey=%E5%B1%B1",
		"searchKey=%D0%98%D0%B2", "searchKey=batch_0&searchIn=uid", "searchKey=ba&searchIn=name", "nameContains=import+person", "nameContains=smith", "nameContains=john",
		"searchKey=per&tags=imported", "searchKey=m&roles=teacher", "tags=caf%C3%A9", "tags=cafe%CC%81", "metadata[level]=1", "metadata[city]=Malm%C3%B6",
	} {
		f.question(atLeastFound, "key", "/v3/users?"+list)
	}
	for _, list := range []string{"status=offline", "status=offline&tags=staff,imported&sortBy=updatedAt", "status=available"} {
		f.question(pagedList, "key", "/v3/users?"+list) // cursors are refused here
	}
	for _, viewer := range []string{"ada", "gus", "fay", "on behalf of ada", "second ada"} {
		f.question(listMembers, viewer, "/v3/users")
		f.question(walkedList, viewer, "/v3/users?sortBy=createdAt")
		f.question(pagedList, viewer, "/v3/users?sortBy=lastActiveAt")
		f.question(walkedList, viewer, "/v3/users?sortBy=updatedAt")
		f.question(listMembers, viewer, "/v3/users?friendsOnly=true")
		f.question(listMembers, viewer, "/v3/users?hideBlockedUsers=true")
		f.question(walkedList, viewer, "/v3/users?tags=everybody&sortBy=createdAt")
		f.question(pagedList, viewer, "/v3/users?status=offline&sortBy=createdAt")
		f.question(pagedList, viewer, "/v3/users?status=available&sortBy=createdAt")
		f.question(wholeAnswer, viewer, "/v3/presence/online-count")
		f.question(wholeAnswer, viewer, "/v3/users/ada05")
	}
	for _, viewer := range []string{"ada", "gus", "fay", "second ada"} {
		for _, list := range []string{
			"blockedusers", "blockedusers?direction=blockedByMe", "blockedusers?direction=hasBlockedMe", "friends", "friend_requests", "friend_requests?direction=sent",
		} {
			f.question(listMembers, viewer, "/v3/"+list)
		}
		f.question(wholeAnswer, viewer, "/v3/me")
		f.question(wholeAnswer, viewer, "/v3/settings")
	}
	for _, uid := range []string{"ada", "gus", "fay", "bob", "zoe", "gone-1", "back"} {
		for _, list := range []string{
			"blockedusers", "blockedusers?direction=hasBlockedMe", "blockedusers?direction=both", "friends", "friend_requests", "friend_requests?direction=sent",
		} {
			f.question(listMembers, "key", "/v3/users/"+uid+"/"+list)
		}
		f.question(wholeAnswer, "key", "/v3/users/"+uid+"/auth_tokens")
		f.question(wholeAnswer, "key", "/v3/users/"+uid+"/can-contact/ada")
		f.question(wholeAnswer, "key", "/v3/visibility/explain?viewer=ada&subject="+uid)
		f.question(wholeAnswer, "key", "/v3/visibility/explain?viewer=gus&subject="+uid)
	}
	for _, uid := range []string{"ada", "soren", "zoe"} {
		f.question(wholeAnswer, "key", "/v3/users/"+uid+"/presence")
		f.question(wholeAnswer, "key", "/v3/users/"+uid+"/presence/timeline")
	}
	for _, path := range []string{
		"/v3/users/ada/export", "/v3/users/import-03/export", "/v3/roles", "/v3/roles/guest", "/v3/roles/temp", "/v3/roles/guest/restrictedfeatures",
		"/v3/changes?limit=1000", "/v3/changes?since=100&limit=5", "/v3/stats?fromDate=1767225600&toDate=1769904000",
		"/v3/users?tags=staff&withTags=true&withDeactivated=true", "/v3/users?perPage=5", "/v3/presence/online-count",
	} {
		f.question(wholeAnswer, "key", path)
	}
	f.question(answerWithin, "key", "/v3/apikeys")
	for _, caller := range []string{"auth key", "revoked", "logged out", "erased", "deactivated", "by a deleted key", "key 0", "key 1", "key 2", "attic key", "attic ada"} {
		f.question(wholeAnswer, caller, "/v3/users?perPage=1&sortBy=createdAt")
		f.question(wholeAnswer, caller, "/v3/me")
	}
	for _, path := range []string{"/v3/apps", "/v3/apps/second", "/v3/apps/attic", "/v3/apps/second/collaborators"} {
		f.question(answerWithin, "operator", path)
	}
	for _, app := range []string{f.Credentials.AppID, "second", "attic"} {
		f.question(answerWithin, "operator", "/v3/apps/"+app+"/settings")
		f.Questions = append(f.Questions, upgradeQuestion{By: "operator", How: wholeAnswer, Path: "/v3/apps/" + app + "/usage", Body: json.RawMessage(`{}`)})
	}
	f.question(exportedLines, "key", "/v3/export")
	f.question(exportedLines, "second key", "/v3/export")
	f.question(walkedList, "second key", "/v3/users")
	f.question(pagedList, "second key", "/v3/users?sortBy=updatedAt")
	f.question(wholeAnswer, "second key", "/v3/changes")
	for _, list := range []string{"/v3/users", "/v3/users?sortBy=updatedAt", "/v3/users?sortBy=lastActiveAt&sortOrder=asc"} {
		f.question(walkedList, "key", list+f.midway(list))
	}
	uids := jsonOf(f.t, f.uids)
	f.Questions = append(f.Questions, upgradeQuestion{By: "key", How: eachUser, Path: "/v3/users/", Body: uids})
	for _, viewer := range []string{"ada", "gus"} {
		f.Questions = append(f.Questions, upgradeQuestion{By: viewer, How: wholeAnswer, Path: "/v3/users/lookup", Body: json.RawMessage(`{"uids":` + string(uids) + `}`)})
	}
	f.answer(f.Questions)
}

// midway returns the query with the cursor that a list's second page ended with.
func (f *filler) midway(path string) string {
	cursor, separator := "start", "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for range 2 {
		var list upgradeList
		cursor = f.page(f.t, f.s.URL, upgradeQuestion{By: "key", Path: path}, &list, map[string][]string{"cursor": {cursor}}).Meta.NextCursor
	}
	return separator + "cursor=" + cursor
}

func (f *filler) answer(questions []upgradeQuestion) {
	for i, q := range questions {
		questions[i].Answer = jsonOf(f.t, f.ask(f.t, f.s.URL, q))
	}
}

// retire asks about the app that is going to be deleted while it is there, and begins its deletion.
func (f *filler) retire() {
	for _, list := range []string{"/v3/users", "/v3/users?sortBy=updatedAt", "/v3/users?withDeactivated=true", "/v3/users?tags=everybody", "/v3/users?searchKey=ada0"} {
		f.Restored = append(f.Restored, upgradeQuestion{By: "attic key", How: walkedList, Path: list})
	}
	f.Restored = append(f.Restored, upgradeQuestion{By: "attic ada", How: listMembers, Path: "/v3/users"},
		upgradeQuestion{By: "attic key", How: exportedLines, Path: "/v3/export"})
	f.answer(f.Restored)
	f.do("operator", "DELETE", "/v3/apps/attic", "")
}

// repeat makes writes that can be repeated.
func (f *filler) repeat() {
	for i, q := range []upgradeQuestion{
		{By: "key", Path: "/v3/users", Body: json.RawMessage(`{"uid":"once","name":"Only Once","withAuthToken":true}`)},
		{By: "key", Path: "/v3/apikeys", Body: json.RawMessage(`{"name":"Made once","scope":"authOnly"}`)},
	} {
		q.How, q.IdempotencyKey = wholeAnswer, fmt.Sprint("write-", i)
		f.ask(f.t, f.s.URL, q)
		f.Questions = append(f.Questions, q)
	}
	f.uids = append(f.uids, "once")
}

func (f *filler) restart() {
	if err := f.s.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.start()
}

func (f *filler) start() {
	f.s = apitest.Start(f.t, fillDatabase, func(c *server.Config) {
		c.DataDir, c.Now = fillDir, f.clock.Now
		starts++ // a random source that begins anew would give the same keys again
		c.Random = rand.NewChaCha8([32]byte{byte(starts)})
	})
}

var (
	fillDatabase, fillDir string
	starts                int
)

// TestFill makes the files of the fixture in the directory named by FIXTURE.
func TestFill(t *testing.T) {
	out := os.Getenv("FIXTURE")
	var answers [][]byte
	for _, engine := range []string{"db", "sql"} {
		fillDatabase, fillDir, starts = "", t.TempDir(), 0
		if engine == "sql" {
			var err error
			if fillDatabase, err = postgres.NewDatabase(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f := &filler{t: t, upgradeFixture: &upgradeFixture{}, clock: apitest.NewClock(), visits: map[string]int{}}
		f.start()
		f.Credentials = f.s.Credentials
		f.fill()
		f.repeat()
		f.retire()
		f.At = f.clock.Now().Unix()
		f.restart() // what was to be stored later is stored
		f.askAll()
		again := slices.Clone(f.Questions)
		f.answer(again)
		for i, q := range f.Questions {
			if !bytes.Equal(q.Answer, again[i].Answer) {
				t.Errorf("%s, asked again:\n%s, not\n%s", q, again[i].Answer, q.Answer)
			}
		}
		if err := f.s.Close(); err != nil {
			t.Fatal(err)
		}
		f.keep(out, engine)
		answers = append(answers, f.text())
	}
	others := strings.Split(string(answers[1]), "\n")
	for i, line := range strings.Split(string(answers[0]), "\n") {
		if line != others[i] {
			t.Logf("SQLite: %s\nPostgreSQL: %s", line, others[i])
		}
	}
	if err := os.WriteFile(filepath.Join(out, "c93263c.json"), answers[0], 0o644); err != nil {
		t.Fatal(err)
	}
}

// keep packs the database.
func (f *filler) keep(out, engine string) {
	f.t.Helper()
	var content []byte
	var err error
	if engine == "db" {
		if left, _ := filepath.Glob(filepath.Join(fillDir, "*-wal")); len(left) > 0 {
			f.t.Fatalf("the server left %v", left)
		}
		content, err = os.ReadFile(filepath.Join(fillDir, server.DatabaseFile))
	} else {
		content, err = exec.CommandContext(f.t.Context(), pgDump(), "--inserts", "--rows-per-insert=50", "--no-owner", "--no-acl", fillDatabase).Output()
		// Lines for psql alone, and settings that older versions do not know.
		content = regexp.MustCompile(`(?m)^(\\.*|--.*|SET (transaction_timeout|default_table_access_method).*)\n`).ReplaceAll(content, nil)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	var packed bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	_, _ = writer.Write(content)
	_ = writer.Close()
	if err := os.WriteFile(filepath.Join(out, "c93263c."+engine+".gz"), packed.Bytes(), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func pgDump() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump")
	return found[len(found)-1]
}

// text writes what is known of the database, one question a line.
func (f *filler) text() []byte {
	var text bytes.Buffer
	line := func(values []upgradeQuestion) {
		for i, q := range values {
			separator := ","
			if i == len(values)-1 {
				separator = ""
			}
			fmt.Fprintf(&text, "%s%s\n", jsonOf(f.t, q), separator)
		}
	}
	fmt.Fprintf(&text, "{\"at\":%d,\n\"credentials\":%s,\n\"callers\":%s,\n\"questions\":[\n", f.At, jsonOf(f.t, f.Credentials), jsonOf(f.t, f.Callers))
	line(f.Questions)
	text.WriteString("],\n\"restored\":[\n")
	line(f.Restored)
	text.WriteString("]}\n")
	return text.Bytes()
}

func decoded[T any](t *testing.T, body []byte) (value T) {
	t.Helper()
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatal(err)
	}
	return value
}
