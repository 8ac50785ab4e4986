package main

import (
	"crypto/rand"
	"database/sql"
	_ "embed" // for the page
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

//go:embed page.html
var pageHTML string

//go:embed page.js
var pageJS []byte

// The SDKs that the page can use.
const (
	ourSDK      = "rollcall"
	officialSDK = "official"
)

// sdkFiles are where the SDKs are, within web/, when they are built and installed.
var sdkFiles = map[string]string{
	ourSDK:      "sdk/dist/rollcall.js",
	officialSDK: "node_modules/@cometchat/chat-sdk-javascript/CometChat.js",
}

// site serves the page and the calls that it makes.
type site struct {
	accounts *accountStore
	sessions *sessionStore
	chat     *chat
	logger   *slog.Logger

	page     *template.Template
	appID    string
	chatHost string
	sdk      string
	sdkFile  string
}

func newSite(o options, db *sql.DB, logger *slog.Logger) (*site, error) {
	keys, err := readCredentials(o.credentials)
	if err != nil {
		return nil, err
	}
	page, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("parse page: %w", err)
	}
	records := &accountStore{db}
	members, err := newChat(o.rollcall, keys, records)
	if err != nil {
		return nil, err
	}
	return &site{
		accounts: records, sessions: &sessionStore{db}, chat: members, logger: logger, page: page, appID: keys.AppID,
		chatHost: o.rollcallBrowser, sdk: o.sdk, sdkFile: o.sdkFile,
	}, nil
}

// handler routes the requests. Calls from other sites are refused three times over: by what browsers say about where
// a request comes from, by the cookie's SameSite, and because no form can send JSON.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.handle(s.showPage))
	mux.HandleFunc("GET /page.js", s.handle(s.showScript))
	mux.HandleFunc("GET /sdk.js", s.handle(s.showSDK))
	mux.HandleFunc("POST /api/register", s.handle(s.register))
	mux.HandleFunc("POST /api/login", s.handle(s.logIn))
	mux.HandleFunc("POST /api/chat-token", s.handle(s.mintToken))
	mux.HandleFunc("POST /api/logout", s.handle(s.logOut))
	return http.NewCrossOriginProtection().Handler(mux)
}

// refusal tells the visitor what is wrong. Every other error is the app's own fault, and told to the log alone.
type refusal struct {
	status  int
	Message string `json:"error"`
	// Field is the input that the message is about; empty when it is about none.
	Field string `json:"field,omitempty"`
}

func (r *refusal) Error() string { return r.Message }

func refuse(status int, message string) error { return &refusal{status: status, Message: message} }

func refuseField(field, message string) error {
	return &refusal{status: http.StatusBadRequest, Message: message, Field: field}
}

func (s *site) handle(handler func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := handler(w, r)
		if err == nil {
			return
		}
		var refused *refusal
		if !errors.As(err, &refused) {
			s.logger.ErrorContext(r.Context(), "request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
			refused = &refusal{status: http.StatusInternalServerError, Message: "Something went wrong on our side. Try again."}
		}
		if err := writeJSON(w, refused.status, refused); err != nil {
			s.logger.WarnContext(r.Context(), "answer not delivered", slog.Any("error", err))
		}
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) error {
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(body)
}

// maxBody is far more than any form here holds.
const maxBody = 16 << 10

func readJSON(w http.ResponseWriter, r *http.Request, body any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "Send JSON.")
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(body); err != nil {
		return refuse(http.StatusBadRequest, "Send one JSON object.")
	}
	return nil
}

// member is what the page learns about whose session it has.
type member struct {
	UID  string `json:"uid"`
	Name string `json:"name"`
	// ChatToken is what the page logs in to the SDK with. It is empty while Rollcall cannot be reached.
	ChatToken string `json:"chatToken,omitempty"`
}

// register stores the account first. If Rollcall does not take its user now, the account stands all the same, and the
// user is created at the next log-in.
func (s *site) register(w http.ResponseWriter, r *http.Request) error {
	var wanted registration
	if err := readJSON(w, r, &wanted); err != nil {
		return err
	}
	wanted.normalize()
	if err := wanted.check(); err != nil {
		return err
	}
	made, err := s.accounts.create(r.Context(), wanted)
	if errors.Is(err, errEmailTaken) {
		return &refusal{
			status: http.StatusConflict, Message: "There is an account with this e-mail address already.", Field: "email",
		}
	}
	if err != nil {
		return err
	}
	if err := s.chat.ensureUser(r.Context(), made); err != nil {
		s.logger.WarnContext(r.Context(), "chat user pending", slog.Int64("account", made.ID), slog.Any("error", err))
	}
	return writeJSON(w, http.StatusCreated, member{UID: made.uid(), Name: made.Name})
}

// logIn opens a session, also while Rollcall is down: the page then asks for the chat token again.
func (s *site) logIn(w http.ResponseWriter, r *http.Request) error {
	var given struct {
		Email    string `json:"email"`
		Password string `json:"password"`
	}
	if err := readJSON(w, r, &given); err != nil {
		return err
	}
	found, err := s.accounts.withPassword(r.Context(), given.Email, given.Password)
	if errors.Is(err, errNoAccount) {
		return refuse(http.StatusUnauthorized, "The e-mail address or the password is wrong.")
	}
	if err != nil {
		return err
	}
	if err := s.sessions.open(w, r, found.ID); err != nil {
		return err
	}
	token, err := s.chat.token(r.Context(), found)
	if err != nil {
		s.logger.WarnContext(r.Context(), "logged in without chat", slog.Int64("account", found.ID), slog.Any("error", err))
	}
	return writeJSON(w, http.StatusOK, member{UID: found.uid(), Name: found.Name, ChatToken: token})
}

// mintToken gives a page that has a session but no chat another token.
func (s *site) mintToken(w http.ResponseWriter, r *http.Request) error {
	if err := readJSON(w, r, &struct{}{}); err != nil {
		return err
	}
	found, err := s.sessions.account(r)
	if errors.Is(err, errNoAccount) {
		return refuse(http.StatusUnauthorized, "Your session has ended. Log in again.")
	}
	if err != nil {
		return err
	}
	token, err := s.chat.token(r.Context(), found)
	if err != nil {
		s.logger.WarnContext(r.Context(), "no chat token", slog.Int64("account", found.ID), slog.Any("error", err))
		return refuse(http.StatusServiceUnavailable, "The chat cannot be reached at the moment.")
	}
	return writeJSON(w, http.StatusOK, member{UID: found.uid(), Name: found.Name, ChatToken: token})
}

func (s *site) logOut(w http.ResponseWriter, r *http.Request) error {
	if err := readJSON(w, r, &struct{}{}); err != nil {
		return err
	}
	if err := s.sessions.end(w, r); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct{}{})
}

// pageData is what the page is rendered with.
type pageData struct {
	AppID, ChatHost, UID, Nonce string
	SDKMissing                  bool
}

func (s *site) showPage(w http.ResponseWriter, r *http.Request) error {
	found, err := s.sessions.account(r)
	if err != nil && !errors.Is(err, errNoAccount) {
		return err
	}
	shown := pageData{AppID: s.appID, ChatHost: s.chatHost, Nonce: rand.Text(), SDKMissing: s.findSDK() == ""}
	if err == nil {
		shown.UID = found.uid()
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	calls := s.chatHost
	if !strings.Contains(calls, "://") {
		calls = "https://" + calls
	}
	header.Set("Content-Security-Policy", fmt.Sprintf(
		"default-src 'none'; script-src 'self'; style-src 'nonce-%s'; img-src data:; connect-src 'self' %s %s; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'", shown.Nonce, calls,
		"ws"+strings.TrimPrefix(calls, "http")))
	return s.page.Execute(w, shown)
}

func (s *site) showScript(w http.ResponseWriter, _ *http.Request) error {
	header := w.Header()
	header.Set("Content-Type", "text/javascript; charset=utf-8")
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Content-Type-Options", "nosniff")
	_, err := w.Write(pageJS)
	return err
}

func (s *site) showSDK(w http.ResponseWriter, r *http.Request) error {
	path := s.findSDK()
	if path == "" {
		return refuse(http.StatusNotFound, "The SDK is not there: run make signup.")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeFile(w, r, path)
	return nil
}

// findSDK returns the path of the SDK's file; empty when it is missing. It looks each time, so that installing it helps
// at once.
func (s *site) findSDK() string {
	if s.sdkFile != "" {
		return existing(s.sdkFile)
	}
	folder, err := filepath.Abs(".")
	if err != nil {
		return ""
	}
	for {
		if path := existing(filepath.Join(folder, "web", sdkFiles[s.sdk])); path != "" {
			return path
		}
		above := filepath.Dir(folder)
		if above == folder {
			return ""
		}
		folder = above
	}
}

func existing(path string) string {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}
