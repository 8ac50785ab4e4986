package apitest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/server"
)

// asked is a request of a transcript, for whoever makes it through the client library.
type asked struct {
	*http.Request
	body []byte
}

// page returns what the query says of the page.
func (a asked) page() client.PageOptions {
	number := func(names ...string) int {
		for _, name := range names {
			if n, err := strconv.Atoi(a.URL.Query().Get(name)); err == nil {
				return n
			}
		}
		return 0
	}
	return client.PageOptions{Page: number("page"), PerPage: number("perPage", "per_page")}
}

// with makes a call with the body that was asked for.
func with[B, T any](a asked, call func(B) (T, error)) (any, error) {
	var body B
	if len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &body); err != nil {
			return nil, err
		}
	}
	return call(body)
}

// none is the result of calls that return nothing but an error.
func none(err error) (any, error) { return nil, err }

// first returns the first page of an iterator.
func first(users iter.Seq2[api.User, error]) (any, error) {
	for _, err := range users {
		return nil, err
	}
	return nil, nil
}

// calls maps routes to the calls of the client library for them.
var calls = map[string]func(ctx context.Context, c *client.Client, a asked) (any, error){
	"POST /users": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.CreateUserRequest) (api.User, error) { return c.Users.Create(ctx, b) })
	},
	"GET /users": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		q := a.URL.Query()
		split := func(name string) []string { return listed(a.URL.RawQuery)[name] }
		updatedAt, _ := strconv.ParseInt(q.Get("updatedAt"), 10, 64)
		options := client.UserListOptions{
			PageOptions: a.page(), SearchKey: q.Get("searchKey"), SearchIn: split("searchIn"), NameContains: q.Get("nameContains"), Roles: split("roles"), Tags: split("tags"),
			UIDs: split("uids"), Status: q.Get("status"), WithTags: q.Get("withTags") != "", FriendsOnly: q.Get("friendsOnly") != "", HideBlockedUsers: q.Get("hideBlockedUsers") != "",
			SortBy: q.Get("sortBy"), SortOrder: q.Get("sortOrder"), UpdatedAt: updatedAt, OnlyDeactivated: q.Get("onlyDeactivated") != "", WithDeactivated: q.Get("withDeactivated") != "",
		}
		if q.Has("cursor") {
			return first(c.Users.All(ctx, options))
		}
		return c.Users.List(ctx, options)
	},
	"PUT /users": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.ReactivateUsersRequest) (api.ReactivateUsersResponse, error) {
			return c.Users.Reactivate(ctx, b.UIDs...)
		})
	},
	"DELETE /users": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.DeactivateUsersRequest) (api.DeactivateUsersResponse, error) {
			return c.Users.Deactivate(ctx, b.UIDs...)
		})
	},
	"GET /users/{uid}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		if a.URL.Query().Has("withDeactivated") {
			return c.Users.GetWithDeactivated(ctx, a.PathValue("uid"))
		}
		return c.Users.Get(ctx, a.PathValue("uid"))
	},
	"PUT /users/{uid}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UpdateUserRequest) (api.User, error) {
			if a.URL.Query().Has("upsert") {
				return c.Users.Upsert(ctx, a.PathValue("uid"), b)
			}
			return c.Users.Update(ctx, a.PathValue("uid"), b)
		})
	},
	"DELETE /users/{uid}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return none(c.Users.Erase(ctx, a.PathValue("uid")))
	},
	"POST /users/batch": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.BatchRequest) (r api.BatchResponse, err error) {
			if a.URL.Query().Has("dryRun") {
				r.Results, err = c.Users.BatchDryRun(ctx, b.Users, b.AssumedRoles...)
			} else {
				r.Results, err = c.Users.Batch(ctx, b.Users)
			}
			return r, err
		})
	},
	"POST /users/lookup": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.LookupRequest) (api.LookupResponse, error) { return c.Users.Lookup(ctx, b.UIDs...) })
	},
	"POST /relations/batch": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.RelationsRequest) (r api.RelationsResponse, err error) {
			if a.URL.Query().Has("dryRun") {
				r.Results, err = c.Visibility.PutRelationsDryRun(ctx, b.Relations, b.AssumedUIDs...)
			} else {
				r.Results, err = c.Visibility.PutRelations(ctx, b.Relations)
			}
			return r, err
		})
	},
	"POST /roles/batch": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.RolesRequest) (r api.RolesResponse, err error) {
			if a.URL.Query().Has("dryRun") {
				r.Results, err = c.Roles.BatchDryRun(ctx, b.Roles)
			} else {
				r.Results, err = c.Roles.Batch(ctx, b.Roles)
			}
			return r, err
		})
	},
	"GET /users/{uid}/export": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Users.Export(ctx, a.PathValue("uid"))
	},
	"GET /export": func(ctx context.Context, c *client.Client, _ asked) (any, error) {
		_, err := c.Export(ctx, io.Discard)
		return none(err)
	},
	"POST /users/{uid}/blockedusers":    block((*client.BlocksService).Block),
	"POST /blockedusers":                block((*client.BlocksService).Block),
	"DELETE /users/{uid}/blockedusers":  block((*client.BlocksService).Unblock),
	"DELETE /blockedusers":              block((*client.BlocksService).Unblock),
	"POST /users/{uid}/friend_requests": askFriends,
	"POST /friend_requests":             askFriends,
	"PUT /users/{uid}/friend_requests":  answerFriends,
	"PUT /friend_requests":              answerFriends,
	"DELETE /users/{uid}/friends":       removeFriends,
	"DELETE /friends":                   removeFriends,
	"POST /users/{uid}/friends": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.AddFriendsRequest) (r api.AddFriendsResponse, err error) {
			r.Accepted, err = c.Friends.Add(ctx, a.PathValue("uid"), b.Accepted...)
			return r, err
		})
	},
	"POST /presence/query": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.PresenceQuery) (api.PresenceQueryResponse, error) { return c.Presence.Query(ctx, b.UIDs...) })
	},
	"GET /presence/online-count": func(ctx context.Context, c *client.Client, _ asked) (any, error) {
		count, err := c.Presence.OnlineCount(ctx)
		return api.OnlineCount{OnlineUsersCount: count}, err
	},
	"GET /users/{uid}/presence": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Presence.Devices(ctx, a.PathValue("uid"))
	},
	"DELETE /users/{uid}/presence": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Presence.Disconnect(ctx, a.PathValue("uid"), "")
	},
	"DELETE /users/{uid}/presence/{deviceId}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Presence.Disconnect(ctx, a.PathValue("uid"), a.PathValue("deviceId"))
	},
	"GET /users/{uid}/presence/timeline": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Presence.Timeline(ctx, a.PathValue("uid"))
	},
	"GET /visibility/explain": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Visibility.Explain(ctx, a.URL.Query().Get("viewer"), a.URL.Query().Get("subject"))
	},
	"GET /users/{uid}/can-contact/{other}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Visibility.CanContact(ctx, a.PathValue("uid"), a.PathValue("other"))
	},
	"POST /users/{uid}/auth_tokens": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.CreateAuthTokenRequest) (api.AuthToken, error) {
			return c.AuthTokens.Create(ctx, a.PathValue("uid"), b)
		})
	},
	"GET /users/{uid}/auth_tokens": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.AuthTokens.List(ctx, a.PathValue("uid"), a.page())
	},
	"DELETE /users/{uid}/auth_tokens": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.DeleteAuthTokensRequest) (api.RevokedResponse, error) {
			return c.AuthTokens.RevokeOfUser(ctx, a.PathValue("uid"), b.IssuedBefore)
		})
	},
	"GET /users/{uid}/auth_tokens/{authToken}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.AuthTokens.Get(ctx, a.PathValue("uid"), a.PathValue("authToken"))
	},
	"PUT /users/{uid}/auth_tokens/{authToken}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UpdateAuthTokenRequest) (api.AuthToken, error) {
			return c.AuthTokens.Update(ctx, a.PathValue("uid"), a.PathValue("authToken"), b)
		})
	},
	"DELETE /users/{uid}/auth_tokens/{authToken}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.AuthTokens.Revoke(ctx, a.PathValue("uid"), a.PathValue("authToken"))
	},
	"DELETE /auth_tokens": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.DeleteAuthTokensRequest) (api.RevokedResponse, error) {
			return c.AuthTokens.RevokeOfApp(ctx, b.IssuedBefore)
		})
	},
	"POST /apikeys": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.CreateAPIKeyRequest) (api.APIKey, error) { return c.APIKeys.Create(ctx, b) })
	},
	"GET /apikeys": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.APIKeys.List(ctx, client.APIKeyListOptions{PageOptions: a.page(), Scope: a.URL.Query().Get("scope"), SearchKey: a.URL.Query().Get("searchKey")})
	},
	"GET /apikeys/{apiKey}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.APIKeys.Get(ctx, a.PathValue("apiKey"))
	},
	"PUT /apikeys/{apiKey}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UpdateAPIKeyRequest) (api.APIKey, error) {
			return c.APIKeys.Update(ctx, a.PathValue("apiKey"), b)
		})
	},
	"POST /apikeys/{apiKey}/rotate": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.RotateAPIKeyRequest) (api.APIKey, error) {
			grace := 24 * time.Hour
			if b.GraceSeconds != nil {
				grace = time.Duration(*b.GraceSeconds) * time.Second
			}
			return c.APIKeys.Rotate(ctx, a.PathValue("apiKey"), grace)
		})
	},
	"DELETE /apikeys/{apiKey}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.DeleteAPIKeyRequest) (api.RevokedResponse, error) {
			return c.APIKeys.Delete(ctx, a.PathValue("apiKey"), b)
		})
	},
	"POST /roles": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.CreateRoleRequest) (api.Role, error) { return c.Roles.Create(ctx, b) })
	},
	"GET /roles": func(ctx context.Context, c *client.Client, a asked) (any, error) { return c.Roles.List(ctx, a.page()) },
	"GET /roles/{role}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Roles.Get(ctx, a.PathValue("role"))
	},
	"PUT /roles/{role}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UpdateRoleRequest) (api.Role, error) { return c.Roles.Update(ctx, a.PathValue("role"), b) })
	},
	"DELETE /roles/{role}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return none(c.Roles.Delete(ctx, a.PathValue("role")))
	},
	"GET /roles/{role}/permissions": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Roles.Permissions(ctx, a.PathValue("role"))
	},
	"DELETE /roles/{role}/permissions/{permission}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		_, err := c.Roles.DeletePermission(ctx, a.PathValue("role"), a.PathValue("permission"))
		return none(err)
	},
	"GET /roles/{role}/restrictedfeatures": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Roles.RestrictedFeatures(ctx, a.PathValue("role"), a.page())
	},
	"DELETE /roles/{role}/restrictedfeatures": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.AllowFeaturesRequest) (any, error) {
			return none(c.Roles.AllowFeatures(ctx, a.PathValue("role"), b))
		})
	},
	"GET /stats": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		from, _ := strconv.ParseInt(a.URL.Query().Get("fromDate"), 10, 64)
		to, _ := strconv.ParseInt(a.URL.Query().Get("toDate"), 10, 64)
		return c.Stats.Get(ctx, from, to)
	},
	"GET /settings": func(ctx context.Context, c *client.Client, _ asked) (any, error) { return c.Me.Settings(ctx) },
	"GET /me":       func(ctx context.Context, c *client.Client, _ asked) (any, error) { return c.Me.Get(ctx) },
	"DELETE /me":    func(ctx context.Context, c *client.Client, _ asked) (any, error) { return none(c.Me.LogOut(ctx)) },
	"PUT /me": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UpdateUserRequest) (api.Me, error) { return c.Me.Update(ctx, b) })
	},
	"POST /me/jwt": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b struct {
			Passthrough any `json:"passthrough"`
		},
		) (r api.JWT, err error) {
			r.JWT, err = c.Me.JWT(ctx, b.Passthrough)
			return r, err
		})
	},
	"POST /apps": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.CreateAppRequest) (api.App, error) { return c.Apps.Create(ctx, b) })
	},
	"GET /apps": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Apps.List(ctx, a.URL.Query().Get("searchKey"), a.page())
	},
	"GET /apps/{appId}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Apps.Get(ctx, a.PathValue("appId"))
	},
	"PUT /apps/{appId}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UpdateAppRequest) (api.App, error) { return c.Apps.Update(ctx, a.PathValue("appId"), b) })
	},
	"DELETE /apps/{appId}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Apps.Delete(ctx, a.PathValue("appId"))
	},
	"POST /apps/{appId}/restore": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Apps.Restore(ctx, a.PathValue("appId"))
	},
	"GET /apps/{appId}/settings": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Apps.Settings(ctx, a.PathValue("appId"))
	},
	"POST /apps/{appId}/settings": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UpdateAppSettingsRequest) (api.AppSettings, error) {
			return c.Apps.UpdateSettings(ctx, a.PathValue("appId"), b)
		})
	},
	"POST /apps/{appId}/usage": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UsageRequest) (api.Usage, error) { return c.Apps.Usage(ctx, a.PathValue("appId"), b) })
	},
	"GET /apps/{appId}/collaborators": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return c.Apps.Collaborators(ctx, a.PathValue("appId"), a.page())
	},
	"POST /apps/{appId}/collaborators": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.Collaborator) (api.Collaborator, error) {
			return c.Apps.AddCollaborator(ctx, a.PathValue("appId"), b)
		})
	},
	"DELETE /apps/{appId}/collaborators/{email}": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return none(c.Apps.RemoveCollaborator(ctx, a.PathValue("appId"), a.PathValue("email")))
	},
	"PUT /roles/{role}/permissions": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.UpdatePermissionsRequest) (any, error) {
			_, err := c.Roles.SetPermissions(ctx, a.PathValue("role"), b)
			return none(err)
		})
	},
	"POST /roles/{role}/restrictedfeatures": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.RestrictFeaturesRequest) (any, error) {
			return none(c.Roles.RestrictFeatures(ctx, a.PathValue("role"), b.Features...))
		})
	},
	"GET /users/{uid}/blockedusers": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return first(c.Blocks.All(ctx, a.PathValue("uid"), a.URL.Query().Get("direction")))
	},
	"GET /users/{uid}/friends": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return first(c.Friends.All(ctx, a.PathValue("uid")))
	},
	"GET /users/{uid}/friend_requests": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return first(c.Friends.Requests(ctx, a.PathValue("uid"), a.URL.Query().Get("direction") == "sent"))
	},
	"GET /changes": func(ctx context.Context, c *client.Client, a asked) (any, error) {
		since, _ := strconv.ParseInt(a.URL.Query().Get("since"), 10, 64)
		limit, _ := strconv.Atoi(a.URL.Query().Get("limit"))
		if uid := a.URL.Query().Get("uid"); uid != "" {
			changes, _, err := c.Changes.ListAbout(ctx, uid, since, limit)
			return changes, err
		}
		changes, _, err := c.Changes.List(ctx, since, limit)
		return changes, err
	},
}

func block(call func(s *client.BlocksService, ctx context.Context, uid string, others ...string) (map[string]api.ItemResult, error)) func(context.Context, *client.Client, asked) (any, error) {
	return func(ctx context.Context, c *client.Client, a asked) (any, error) {
		return with(a, func(b api.BlockRequest) (map[string]api.ItemResult, error) {
			return call(c.Blocks, ctx, a.PathValue("uid"), b.UIDs...)
		})
	}
}

func askFriends(ctx context.Context, c *client.Client, a asked) (any, error) {
	return with(a, func(b api.FriendRequestsRequest) (map[string]api.ItemResult, error) {
		return c.Friends.Ask(ctx, a.PathValue("uid"), b.UIDs...)
	})
}

func answerFriends(ctx context.Context, c *client.Client, a asked) (any, error) {
	return with(a, func(b api.FriendRequestsRequest) (map[string]api.ItemResult, error) {
		return c.Friends.Answer(ctx, a.PathValue("uid"), b)
	})
}

func removeFriends(ctx context.Context, c *client.Client, a asked) (any, error) {
	return with(a, func(b api.RemoveFriendsRequest) (any, error) {
		return none(c.Friends.Remove(ctx, a.PathValue("uid"), b.Friends...))
	})
}

// notOfClients are routes that the library has no call for, and why.
var notOfClients = map[string]string{
	"POST /data_import/users":               "the contract's form of Batch, for programs that have it",
	"GET /presence/events":                  "a stream: TestPresence_follow",
	"POST /ws/api/{version}/online-members": "the official SDK's form of OnlineCount",
	"GET /blockedusers":                     "Blocks.All with an empty uid: TestClient_Blocks",
	"GET /friends":                          "Friends.All with an empty uid",
	"GET /friend_requests":                  "Friends.Requests with an empty uid",
	"PUT /me":                               "the transcripts send what the official SDK sends: TestClient_TokensAndMe",
	"POST /apps/{appId}/settings":           "the transcripts send more than one kind at once: TestClient_Apps",
	"POST /user_sessions":                   "what the official SDK reports of itself",
	"POST /ping":                            "what the official SDK reports of itself",
	"GET /stats/messages":                   "there are no messages",
	"GET /.well-known/jwks.json":            "for whoever verifies JWTs",
	"GET /healthz":                          "for operators",
	"GET /readyz":                           "for operators",
	"GET /metrics":                          "for operators",
	"GET /openapi.json":                     "for programs that make clients",
	"GET /docs":                             "for people",
	"GET /{$}":                              "for people",
}

// wiretap sends what a client sends, and keeps the answer.
type wiretap struct {
	status   int
	received []byte
}

func (w *wiretap) RoundTrip(request *http.Request) (*http.Response, error) {
	request.Host = "chat.example.com"
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	w.status = response.StatusCode
	if w.received, err = io.ReadAll(response.Body); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(w.received))
	return response, nil
}

// TestTranscriptsThroughClient makes the requests of the transcripts through the client library, where it has a call
// that sends the same. What comes back is what the transcript says, nothing of it is lost in the library's types, and
// refusals are errors with their code.
func TestTranscriptsThroughClient(t *testing.T) {
	mux := http.NewServeMux()
	for _, route := range httpapi.Routes() {
		mux.HandleFunc(route.Method+" "+route.Path, func(http.ResponseWriter, *http.Request) {})
	}
	made := map[string]int{}
	for _, path := range transcripts(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { replayThroughClient(t, path, mux, made) })
	}
	for _, route := range httpapi.Routes() {
		pattern := route.Method + " " + route.Path
		if _, excused := notOfClients[pattern]; made[pattern] == 0 && !excused {
			t.Errorf("no transcript has a %s that the client library makes", pattern)
		}
	}
}

func replayThroughClient(t *testing.T, path string, mux *http.ServeMux, made map[string]int) {
	_, exchanges := readTranscript(t, path)
	s := apitest.Start(t, "", func(config *server.Config) { config.RateLimits = httpapi.RateLimits{Core: -1, Standard: -1, Token: -1} })
	variables := variables(s.Credentials)
	description := loadOpenAPI(t)
	for _, x := range exchanges {
		s.Clock().Advance(10 * time.Second)
		request := parseRequest(t, variables, x.request)
		a := asked{Request: request}
		if request.Body != nil {
			a.body, _ = io.ReadAll(request.Body)
			request.Body = io.NopCloser(bytes.NewReader(a.body))
		}
		plain := request.Clone(t.Context())
		plain.URL.Path = version.ReplaceAllString(plain.URL.Path, "/")
		plain.URL.RawPath = ""
		_, pattern := mux.Handler(plain)
		tap := &wiretap{}
		result, err, same := callAlike(t, s, pattern, plain, a, tap)
		var got []byte
		if same {
			got = fmt.Appendf(nil, "%d\n%s", tap.status, tap.received)
			made[pattern]++
		} else {
			got = send(t, s.URL, request, description)
		}
		variables = variables.capture(string(got))
		if hidden := variables.hide(string(got)); hidden != string(x.response) {
			t.Errorf("%s: the response is\n%s\nand should be\n%s", x.name, hidden, x.response)
		}
		if same {
			checkResult(t, x.name, tap, result, err)
		}
	}
}

// callAlike makes the request through the library, if there is a call for its route that sends just the same. To find
// that out without a trace, the call is first made to nobody.
func callAlike(
	t *testing.T, s *apitest.Server, pattern string, matched *http.Request, a asked, tap *wiretap,
) (result any, err error, same bool) {
	t.Helper()
	call := calls[pattern]
	if call == nil {
		return nil, nil, false
	}
	patternMux := http.NewServeMux()
	patternMux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) { a.Request = r })
	patternMux.ServeHTTP(nil, matched)
	connect := func(transport http.RoundTripper) *client.Client {
		options := []client.Option{client.WithHTTPClient(&http.Client{Transport: transport}), client.WithTries(1)}
		for _, header := range []struct {
			name   string
			option func(string) client.Option
		}{{"appId", client.WithApp}, {"apikey", client.WithAPIKey}, {"authToken", client.WithAuthToken}} {
			if value := matched.Header.Get(header.name); value != "" {
				options = append(options, header.option(value))
			}
		}
		if key := matched.Header.Get("key"); key != "" {
			options = append(options, client.WithManagement(key, matched.Header.Get("secret")))
		}
		c, err := client.New(s.URL, options...)
		if err != nil {
			t.Fatal(err)
		}
		if uid := matched.Header.Get("onBehalfOf"); uid != "" {
			c = c.OnBehalfOf(uid)
		}
		return c
	}
	ctx := t.Context()
	if key := matched.Header.Get("Idempotency-Key"); key != "" {
		ctx = client.WithIdempotencyKey(ctx, key)
	}
	for name := range matched.Header {
		if !slices.Contains([]string{"Appid", "Apikey", "Authtoken", "Key", "Secret", "Onbehalfof", "Idempotency-Key", "Content-Type"}, http.CanonicalHeaderKey(name)) {
			return nil, nil, false
		}
	}
	if matched.Host != "server" || matched.Header.Get("Content-Type") != "" && matched.Header.Get("Content-Type") != "application/json" {
		return nil, nil, false
	}
	probe := &vacant{}
	_, _ = call(ctx, connect(probe), a)
	if probe.request == nil || !alike(probe, matched, a.body) {
		return nil, nil, false
	}
	result, err = call(ctx, connect(tap), a)
	return result, err, true
}

// vacant keeps a request and answers it with an error.
type vacant struct {
	request *http.Request
	body    []byte
}

func (n *vacant) RoundTrip(request *http.Request) (*http.Response, error) {
	n.request = request
	if request.Body != nil {
		n.body, _ = io.ReadAll(request.Body)
	}
	return nil, errors.New("nobody is there")
}

// alike reports whether two requests say the same: the path, the query and the body as JSON.
func alike(probe *vacant, matched *http.Request, body []byte) bool {
	if version.ReplaceAllString(probe.request.URL.Path, "/") != matched.URL.Path || !reflect.DeepEqual(plainQuery(probe.request.URL.RawQuery, matched.URL.Path), plainQuery(matched.URL.RawQuery, matched.URL.Path)) {
		return false
	}
	var sent, wanted any
	if len(body) == 0 || len(probe.body) == 0 {
		return (len(body) == 0 || string(body) == "{}") && (len(probe.body) == 0 || strings.TrimSpace(string(probe.body)) == "{}")
	}
	// The strict decoder knows names that come twice, which no library sends.
	return jsonv2.Unmarshal(probe.body, &sent) == nil && jsonv2.Unmarshal(body, &wanted) == nil && reflect.DeepEqual(sent, wanted)
}

// listed returns the items of the parameters of a query: a list may be in one, or repeat it.
func listed(rawQuery string) map[string][]string {
	items := map[string][]string{}
	for parameter := range strings.SplitSeq(rawQuery, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		for item := range strings.SplitSeq(value, ",") {
			text, err := url.QueryUnescape(item)
			if err == nil && text != "" && name != "tags" && name != "searchKey" && name != "nameContains" {
				items[name] = append(items[name], strings.Split(text, ",")...)
			} else if err == nil && text != "" {
				items[name] = append(items[name], text)
			}
		}
	}
	return items
}

// plainQuery puts the spellings of a query that mean the same into one.
func plainQuery(rawQuery, path string) map[string][]string {
	plain := map[string][]string{}
	for name, values := range listed(rawQuery) {
		switch {
		case name == "per_page":
			name = "perPage"
		case name == "cursor" && values[0] == "start" && path != "/users": // how the library's iterators begin
			continue
		}
		for _, value := range values {
			if value == "1" && name != "page" && name != "perPage" {
				value = "true"
			}
			plain[name] = append(plain[name], value)
		}
	}
	return plain
}

// checkResult compares what a call returned with what came over the wire.
func checkResult(t *testing.T, name string, tap *wiretap, result any, err error) {
	t.Helper()
	var wire struct {
		Data any `json:"data"`
		Meta struct {
			Item    any               `json:"item"`
			Items   any               `json:"items"`
			Codes   map[string]string `json:"codes"`
			Revoked *int              `json:"revokedTokens"`
			Closed  *int              `json:"closedSockets"`
		} `json:"meta"`
		Error *struct {
			Code    api.Code `json:"code"`
			Message string   `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(tap.received, &wire) != nil {
		return // not an envelope: an export
	}
	if wire.Error != nil {
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Code != wire.Error.Code || refused.Message != wire.Error.Message || refused.Status != tap.status {
			t.Errorf("%s: the call returns %v", name, err)
		}
		return
	}
	if result == nil || reflect.ValueOf(result).Kind() == reflect.Invalid {
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	text, err := json.Marshal(result)
	var returned any
	if err == nil {
		err = json.Unmarshal(text, &returned)
	}
	if err != nil {
		t.Fatal(err)
	}
	if page, ok := returned.(map[string]any); ok && page["Items"] != nil {
		returned = page["Items"]
	}
	lost := lostIn(returned, wire.Data, "")
	if wire.Meta.Item != nil {
		lost = append(lost, lostIn(returned, wire.Meta.Item, "meta.item")...)
	}
	if wire.Meta.Items != nil {
		lost = append(lost, lostIn(returned, wire.Meta.Items, "meta.items")...)
	}
	for name, count := range map[string]*int{"revokedTokens": wire.Meta.Revoked, "closedSockets": wire.Meta.Closed} {
		if count != nil {
			lost = append(lost, lostIn(returned, map[string]any{name: float64(*count)}, "meta")...)
		}
	}
	if object, ok := returned.(map[string]any); ok && object["accepted"] != nil {
		returned = object["accepted"]
	}
	for item, code := range wire.Meta.Codes {
		lost = append(lost, lostIn(returned, map[string]any{item: map[string]any{"code": code}}, "meta.codes")...)
	}
	if len(lost) > 0 {
		t.Errorf("%s: lost in the library's types: %v", name, lost)
	}
}

// lostIn lists what of a value is not in another.
func lostIn(returned, wire any, at string) (lost []string) {
	switch wire := wire.(type) {
	case map[string]any:
		object, _ := returned.(map[string]any)
		for name, value := range wire {
			lost = append(lost, lostIn(object[name], value, at+"."+name)...)
		}
	case []any:
		list, _ := returned.([]any)
		if len(list) != len(wire) {
			return []string{at}
		}
		for i, value := range wire {
			lost = append(lost, lostIn(list[i], value, fmt.Sprintf("%s.%d", at, i))...)
		}
	case nil, bool, float64, string:
		empty := wire == nil || wire == false || wire == 0.0 || wire == ""
		if !reflect.DeepEqual(returned, wire) && (!empty || returned != nil) {
			return []string{fmt.Sprintf("%s: %v, not %v", at, returned, wire)}
		}
	}
	return lost
}
