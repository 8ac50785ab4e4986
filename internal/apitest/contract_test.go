package apitest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/rollcall/rollcall/internal/httpapi"
)

// What follows is the contract's, member by member (rest.md and sdk-wire.md): what a client knows that refuses every
// other. The server's own types are not used here, so that a member which is added there does not come to be known
// here.
type (
	contractUser struct {
		UID            string          `json:"uid"`
		Name           string          `json:"name"`
		Avatar         string          `json:"avatar"`
		Link           string          `json:"link"`
		Role           string          `json:"role"`
		StatusMessage  string          `json:"statusMessage"`
		Metadata       json.RawMessage `json:"metadata"`
		Tags           []string        `json:"tags"`
		Status         string          `json:"status"`
		LastActiveAt   int64           `json:"lastActiveAt"`
		CreatedAt      int64           `json:"createdAt"`
		UpdatedAt      int64           `json:"updatedAt"`
		DeactivatedAt  int64           `json:"deactivatedAt"`
		AuthToken      string          `json:"authToken"`
		ConversationID string          `json:"conversationId"`
		BlockedByMe    bool            `json:"blockedByMe"`
		BlockedByMeAt  int64           `json:"blockedByMeAt"`
		HasBlockedMe   bool            `json:"hasBlockedMe"`
		HasBlockedMeAt int64           `json:"hasBlockedMeAt"`
		BlockedAt      int64           `json:"blockedAt"`
	}
	contractMe struct {
		contractUser
		JWT       string           `json:"jwt"`
		WSChannel json.RawMessage  `json:"wsChannel"`
		Settings  contractSettings `json:"settings"`
	}
	contractSettings struct {
		AdminAPIHost           string          `json:"ADMIN_API_HOST"`
		ClientAPIHost          string          `json:"CLIENT_API_HOST"`
		ChatAPIVersion         string          `json:"CHAT_API_VERSION"`
		ChatHost               string          `json:"CHAT_HOST"`
		ChatWSSPort            string          `json:"CHAT_WSS_PORT"`
		WSAPIVersion           string          `json:"WS_API_VERSION"`
		AppVersion             int             `json:"APP_VERSION"`
		AnalyticsHost          string          `json:"ANALYTICS_HOST"`
		AnalyticsVersion       string          `json:"ANALYTICS_VERSION"`
		AnalyticsUseSSL        bool            `json:"ANALYTICS_USE_SSL"`
		SettingsHash           string          `json:"settingsHash"`
		SettingsHashReceivedAt int64           `json:"settingsHashReceivedAt"`
		Mode                   string          `json:"MODE"`
		Region                 string          `json:"REGION"`
		ExtensionDomain        string          `json:"EXTENSION_DOMAIN"`
		Extensions             []any           `json:"extensions"`
		Parameters             json.RawMessage `json:"parameters"`
	}
	contractToken struct {
		UID       string          `json:"uid"`
		AuthToken string          `json:"authToken"`
		CreatedAt int64           `json:"createdAt"`
		Platform  string          `json:"platform"`
		UserAgent string          `json:"userAgent"`
		AppInfo   json.RawMessage `json:"appInfo"`
	}
	contractKey struct {
		APIKey    string `json:"apiKey"`
		Name      string `json:"name"`
		Scope     string `json:"scope"`
		CreatedAt int64  `json:"createdAt"`
	}
	contractRole struct {
		Role        string          `json:"role"`
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Metadata    json.RawMessage `json:"metadata"`
		Settings    struct {
			ListUsers      string `json:"listUsers"`
			SendMessagesTo string `json:"sendMessagesTo"`
		} `json:"settings"`
		CreatedAt int64 `json:"createdAt"`
		UpdatedAt int64 `json:"updatedAt"`
	}
	contractPermission struct {
		ID              string   `json:"id"`
		Type            string   `json:"type"`
		Title           string   `json:"title"`
		Description     string   `json:"description"`
		DataType        string   `json:"dataType"`
		AvailableValues []string `json:"availableValues"`
		DefaultValue    *string  `json:"defaultValue"`
		CreatedAt       int64    `json:"createdAt"`
		UpdatedAt       int64    `json:"updatedAt"`
	}
	contractFeature struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		Key         string `json:"key"`
		Path        string `json:"path"`
		CreatedAt   int64  `json:"createdAt"`
	}
	contractSuccess struct {
		Success bool   `json:"success"`
		Message string `json:"message"`
	}
	contractOutcomes map[string]contractSuccess
	// contractSet has outcomes, and among them the permissions that the role sets then.
	contractSet         struct{}
	contractPermissions struct {
		Permissions map[string]json.RawMessage `json:"permissions"`
	}
	contractAccepted struct {
		Accepted contractOutcomes `json:"accepted"`
	}
	contractJWT struct {
		JWT string `json:"jwt"`
	}
	contractSession struct {
		SessionID string `json:"sessionId"`
	}
	contractOnline struct {
		OnlineUsersCount int `json:"onlineUsersCount"`
	}
	contractDeleted struct {
		DeactivatedUIDs []string `json:"deactivatedUids"`
		Success         bool     `json:"success"`
		Message         string   `json:"message"`
	}
	contractDeactivated struct {
		DeactivatedUIDs        []string `json:"deactivatedUids"`
		AlreadyDeactivatedUIDs []string `json:"alreadyDeactivatedUids"`
		NotFound               []string `json:"notFound"`
	}
	contractReactivated struct {
		ReactivatedUIDs    []string `json:"reactivatedUids"`
		NonDeactivatedUIDs []string `json:"nonDeactivatedUids"`
		NotFound           []string `json:"notFound"`
	}
	contractImported struct {
		Success bool          `json:"success"`
		Data    contractUser  `json:"data"`
		Error   contractError `json:"error"`
	}
	contractApp struct {
		ID          string `json:"id"`
		Name        string `json:"name"`
		Plan        string `json:"plan"`
		TrialEndsAt int64  `json:"trialEndsAt"`
		State       string `json:"state"`
		Owner       string `json:"owner"`
		Region      string `json:"region"`
		CreatedAt   int64  `json:"createdAt"`
		AppOwner    struct {
			ID    string `json:"id"`
			Name  string `json:"name"`
			Email string `json:"email"`
		} `json:"appOwner"`
		AppRegion struct {
			ID          string `json:"id"`
			Name        string `json:"name"`
			Description string `json:"description"`
		} `json:"appRegion"`
		APIKeys   map[string]contractFirstKey `json:"apiKeys"`
		AccessKey string                      `json:"accessKey"`
	}
	contractFirstKey struct {
		APIKey    string `json:"apiKey"`
		Name      string `json:"name"`
		Scope     string `json:"scope"`
		CreatedBy string `json:"createdBy"`
	}
	contractDeletedApp struct {
		Success             bool  `json:"success"`
		ScheduledToDeleteAt int64 `json:"scheduledToDeleteAt"`
	}
	contractStats struct {
		Metrics struct {
			AudioMinutes    int `json:"audio_minutes"`
			VideoMinutes    int `json:"video_minutes"`
			RecordedMinutes int `json:"recorded_minutes"`
			ActiveUsers     int `json:"active_users"`
			ConcurrentUsers int `json:"concurrent_users"`
		} `json:"metrics"`
		TimeRange struct {
			FromDate int64 `json:"fromDate"`
			ToDate   int64 `json:"toDate"`
		} `json:"time_range"`
	}
	contractError struct {
		Code       string              `json:"code"`
		Message    string              `json:"message"`
		DevMessage string              `json:"devMessage"`
		Source     string              `json:"source"`
		Details    map[string][]string `json:"details"`
	}
	// contractMeta is what a list needs. Beside it, meta is where this server tells what is its own.
	contractMeta struct {
		Pagination struct {
			Total       int `json:"total"`
			Count       int `json:"count"`
			PerPage     int `json:"per_page"`
			CurrentPage int `json:"current_page"`
			TotalPages  int `json:"total_pages"`
		} `json:"pagination"`
		Cursor struct {
			UpdatedAt int64  `json:"updatedAt"`
			Affix     string `json:"affix"`
		} `json:"cursor"`
	}
)

// UnmarshalJSON refuses what is not the contract's.
func (contractSet) UnmarshalJSON(text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	for name, value := range members {
		var outcome contractSuccess
		if name == "permissions" {
			continue
		}
		if err := jsonv2.Unmarshal(value, &outcome, jsonv2.RejectUnknownMembers(true)); err != nil {
			return err
		}
	}
	return nil
}

// contractCalls are the calls of the contract, with what is in data.
var contractCalls = map[string]any{
	"POST /users":         contractUser{},
	"GET /users":          []contractUser{},
	"PUT /users":          contractReactivated{},
	"DELETE /users":       contractDeactivated{},
	"GET /users/{uid}":    contractUser{},
	"PUT /users/{uid}":    contractUser{},
	"DELETE /users/{uid}": contractDeleted{},

	"POST /data_import/users": map[string]contractImported{},

	"POST /users/{uid}/auth_tokens":               contractToken{},
	"GET /users/{uid}/auth_tokens":                []contractToken{},
	"DELETE /users/{uid}/auth_tokens":             contractSuccess{},
	"GET /users/{uid}/auth_tokens/{authToken}":    contractToken{},
	"PUT /users/{uid}/auth_tokens/{authToken}":    contractToken{},
	"DELETE /users/{uid}/auth_tokens/{authToken}": contractSuccess{},

	"POST /apikeys":            contractKey{},
	"GET /apikeys":             []contractKey{},
	"GET /apikeys/{apiKey}":    contractKey{},
	"PUT /apikeys/{apiKey}":    contractKey{},
	"DELETE /apikeys/{apiKey}": contractSuccess{},

	"POST /roles":                                   contractRole{},
	"GET /roles":                                    []contractRole{},
	"GET /roles/{role}":                             contractRole{},
	"PUT /roles/{role}":                             contractRole{},
	"DELETE /roles/{role}":                          contractSuccess{},
	"GET /roles/{role}/permissions":                 []contractPermission{},
	"PUT /roles/{role}/permissions":                 contractSet{},
	"DELETE /roles/{role}/permissions/{permission}": contractPermissions{},
	"POST /roles/{role}/restrictedfeatures":         contractOutcomes{},
	"GET /roles/{role}/restrictedfeatures":          []contractFeature{},
	"DELETE /roles/{role}/restrictedfeatures":       contractSuccess{},

	"POST /users/{uid}/blockedusers":   contractOutcomes{},
	"GET /users/{uid}/blockedusers":    []contractUser{},
	"DELETE /users/{uid}/blockedusers": contractOutcomes{},
	"POST /users/{uid}/friends":        contractAccepted{},
	"GET /users/{uid}/friends":         []contractUser{},
	"DELETE /users/{uid}/friends":      contractSuccess{},

	"GET /stats":           contractStats{},
	"GET /stats/messages":  []any{},
	"POST /apps":           contractApp{},
	"GET /apps":            []contractApp{},
	"DELETE /apps/{appId}": contractDeletedApp{},

	"POST /blockedusers":                    contractOutcomes{},
	"GET /blockedusers":                     []contractUser{},
	"DELETE /blockedusers":                  contractOutcomes{},
	"GET /settings":                         contractSettings{},
	"GET /me":                               contractMe{},
	"PUT /me":                               contractMe{},
	"DELETE /me":                            contractSuccess{},
	"POST /me/jwt":                          contractJWT{},
	"POST /user_sessions":                   contractSession{},
	"POST /ping":                            contractSuccess{},
	"POST /ws/api/{version}/online-members": contractOnline{},
}

// ownCalls are this server's: what their answers hold is described in openapi.yaml alone. Those of the contract among
// them are the ones whose answers it does not tell.
var ownCalls = strings.Fields(`
	/users/batch /users/lookup /relations/batch /roles/batch /export /users/{uid}/export /friends
	/users/{uid}/friend_requests /friend_requests /presence/query /presence/online-count /presence/events
	/users/{uid}/presence /users/{uid}/presence/{deviceId} /users/{uid}/presence/timeline /visibility/explain
	/users/{uid}/can-contact/{other} /auth_tokens /apikeys/{apiKey}/rotate
	/changes /apps/{appId} /apps/{appId}/restore /apps/{appId}/settings /apps/{appId}/usage /apps/{appId}/collaborators
	/apps/{appId}/collaborators/{email} /.well-known/jwks.json /healthz /readyz /metrics /openapi.json /docs /{$}`)

// TestAnswersHoldTheContractAlone decodes the answers of the transcripts to the contract's calls as a client does that
// refuses members it does not know.
func TestAnswersHoldTheContractAlone(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	for _, route := range httpapi.Routes() {
		call := route.Method + " " + route.Path
		mux.HandleFunc(call, func(http.ResponseWriter, *http.Request) {})
		own := false
		for _, path := range ownCalls {
			own = own || path == route.Path
		}
		if _, ofContract := contractCalls[call]; !ofContract && !own {
			t.Errorf("%s is neither among the contract's calls nor among this server's own", call)
		}
	}
	for _, path := range transcripts(t) {
		_, exchanges := readTranscript(t, path)
		for _, x := range exchanges {
			first, _, _ := strings.Cut(string(x.request), "\n")
			method, target, _ := strings.Cut(first, " ")
			request, err := http.NewRequestWithContext(
				t.Context(),
				method,
				"http://server"+version.ReplaceAllString(target, "/"),
				nil,
			)
			if err != nil {
				t.Fatal(err)
			}
			_, call := mux.Handler(request)
			_, body, _ := bytes.Cut(x.response, []byte("\n"))
			if err := decodeStrictly(call, bytes.HasPrefix(x.response, []byte("200\n")), body); err != nil {
				t.Errorf("%s, %s, which is %s: %v\n%s", path, x.name, call, err, body)
			}
		}
	}
}

// decodeStrictly decodes an answer, and fails for what is not the contract's.
func decodeStrictly(call string, succeeded bool, body []byte) error {
	strict := jsonv2.RejectUnknownMembers(true)
	expected, ofContract := contractCalls[call]
	switch {
	case !json.Valid(body): // a page, an export, or nothing
		return nil
	case !succeeded:
		var refused struct {
			Error contractError `json:"error"`
		}
		return jsonv2.Unmarshal(body, &refused, strict)
	case !ofContract:
		return nil
	}
	var envelope struct {
		Data json.RawMessage `json:"data"`
		Meta json.RawMessage `json:"meta"`
	}
	if err := jsonv2.Unmarshal(body, &envelope, strict); err != nil {
		return err
	}
	if len(envelope.Meta) > 0 {
		var meta contractMeta
		if err := jsonv2.Unmarshal(envelope.Meta, &meta); err != nil {
			return err
		}
	}
	return jsonv2.Unmarshal(envelope.Data, reflect.New(reflect.TypeOf(expected)).Interface(), strict)
}
