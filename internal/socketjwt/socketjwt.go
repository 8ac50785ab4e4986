// Package socketjwt signs and checks the short-lived JWTs with which sockets authenticate: a client gets one for its
// auth token over HTTP, and sends it as the first frame of its socket.
package socketjwt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Keys are the symmetric keys that JWTs are signed with. Implementations are safe for concurrent use.
type Keys interface {
	// SigningKey returns the current key and its id.
	SigningKey() (id string, key []byte)
	// VerifyingKey returns the key with an id, false when there is none.
	VerifyingKey(id string) ([]byte, bool)
}

// Claims bind a JWT to the user and the auth token it was issued for. They do not name a session: pages of one user
// share a JWT through the browser's storage, each with a session of its own.
type Claims struct {
	App   string `json:"app"`
	UID   string `json:"sub"`
	Token string `json:"tid"`
	// IssuedAt and ExpiresAt are Unix seconds.
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
}

const (
	issuer   = "rollcall"
	audience = "socket"
)

// Signer signs and checks. It is safe for concurrent use.
type Signer struct {
	keys   Keys
	header string
	key    []byte
}

// NewSigner returns a Signer that signs with the current key, and checks with any.
func NewSigner(keys Keys) *Signer {
	id, key := keys.SigningKey()
	header, err := json.Marshal(header{Algorithm: "HS256", KeyID: id, Type: "JWT"})
	if err != nil {
		panic(err) // three strings are always JSON
	}
	return &Signer{keys: keys, header: base64.RawURLEncoding.EncodeToString(header) + ".", key: key}
}

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// Sign returns the JWT of claims, in the compact form of RFC 7515. Every login and every page load needs one.
func (s *Signer) Sign(claims Claims) string {
	claims.Issuer, claims.Audience = issuer, audience
	body, err := json.Marshal(claims)
	if err != nil {
		panic(err) // strings and integers are always JSON
	}
	text := make(
		[]byte, 0, len(s.header)+base64.RawURLEncoding.EncodedLen(len(body))+1+base64.RawURLEncoding.EncodedLen(sha256.Size),
	)
	text = base64.RawURLEncoding.AppendEncode(append(text, s.header...), body)
	return string(base64.RawURLEncoding.AppendEncode(append(text, '.'), signature(s.key, text)))
}

func signature(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return mac.Sum(nil)
}

// ErrInvalid is returned for what is no JWT of ours, or not any more.
var ErrInvalid = errors.New("the JWT is not valid")

// Verify returns the claims of a JWT that is good at a time. Errors: ErrInvalid.
func (s *Signer) Verify(text string, now time.Time) (Claims, error) {
	claims, err := s.VerifyOrigin(text)
	if err != nil || now.Unix() >= claims.ExpiresAt {
		return Claims{}, ErrInvalid
	}
	return claims, nil
}

// VerifyOrigin returns the claims of a JWT that was signed here, whether it has expired or not. Whoever goes by it
// looks at the auth token that it was issued for. Errors: ErrInvalid.
func (s *Signer) VerifyOrigin(text string) (claims Claims, err error) {
	signed, mac, ok := cutLast(text)
	if !ok {
		return Claims{}, ErrInvalid
	}
	head, body, ok := strings.Cut(signed, ".")
	if !ok {
		return Claims{}, ErrInvalid
	}
	key := s.key
	if head+"." != s.header {
		var h header
		if decode(head, &h) != nil || h.Algorithm != "HS256" {
			return Claims{}, ErrInvalid
		}
		if key, ok = s.keys.VerifyingKey(h.KeyID); !ok {
			return Claims{}, ErrInvalid
		}
	}
	sent, err := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || !hmac.Equal(sent, signature(key, []byte(signed))) {
		return Claims{}, ErrInvalid
	}
	if decode(body, &claims) != nil || claims.Issuer != issuer || claims.Audience != audience {
		return Claims{}, ErrInvalid
	}
	return claims, nil
}

func cutLast(text string) (before, after string, found bool) {
	at := strings.LastIndexByte(text, '.')
	if at < 0 {
		return "", "", false
	}
	return text[:at], text[at+1:], true
}

func decode(text string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}
