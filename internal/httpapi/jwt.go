package httpapi

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rollcall/rollcall/api"
)

// socketClaims bind a socket JWT to the user, auth token and session it was issued for.
type socketClaims struct {
	jwt.Claims
	App     string `json:"app"`
	Token   string `json:"tid"`
	Session string `json:"sid,omitempty"`
}

const socketAudience = "socket"

// sessionID is the SDK's id of one tab or device: its resource header (sdk-wire.md section A4).
func (c *call) sessionID() string {
	id := headerValue(c.r, "Resource")
	if len(id) > 255 {
		return ""
	}
	return id
}

// signSocketJWT issues the short-lived token that the socket authenticates with.
func (a *API) signSocketJWT(c *call) (string, error) {
	now := time.Unix(a.dir.Now(), 0)
	claims, err := json.Marshal(socketClaims{
		Claims: jwt.Claims{
			Issuer: "rollcall", Subject: string(c.caller.User), Audience: jwt.Audience{socketAudience}, IssuedAt: jwt.NewNumericDate(now),
			Expiry: jwt.NewNumericDate(now.Add(a.config.JWTLifetime)),
		},
		App: string(c.caller.App), Token: string(c.caller.Token), Session: c.sessionID(),
	})
	if err != nil {
		return "", fmt.Errorf("sign JWT: %w", err)
	}
	return a.socketSigner.sign(claims), nil
}

// hs256 signs JWTs in the compact form of RFC 7515 with HMAC-SHA256. Every login and every page load needs one, and
// the header never changes. It is safe for concurrent use.
type hs256 struct {
	header string
	key    []byte
}

func newHS256(keys Signer) (*hs256, error) {
	id, key := keys.SigningKey()
	header, err := json.Marshal(map[string]string{"alg": string(jose.HS256), "kid": id, "typ": "JWT"})
	return &hs256{header: base64.RawURLEncoding.EncodeToString(header) + ".", key: key}, err
}

func (s *hs256) sign(claims []byte) string {
	text := make([]byte, 0, len(s.header)+base64.RawURLEncoding.EncodedLen(len(claims))+1+base64.RawURLEncoding.EncodedLen(sha256.Size))
	text = base64.RawURLEncoding.AppendEncode(append(text, s.header...), claims)
	mac := hmac.New(sha256.New, s.key)
	mac.Write(text)
	return string(base64.RawURLEncoding.AppendEncode(append(text, '.'), mac.Sum(nil)))
}

// jwtIsFresh reports whether the request's socket JWT is this caller's and has more than half its life left.
func (a *API) jwtIsFresh(c *call) bool {
	text, ok := strings.CutPrefix(headerValue(c.r, "Authorization"), "Bearer ")
	if !ok {
		return false
	}
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil || len(parsed.Headers) != 1 {
		return false
	}
	key, known := a.config.Signer.VerifyingKey(parsed.Headers[0].KeyID)
	if !known {
		return false
	}
	var claims socketClaims
	if err := parsed.Claims(key, &claims); err != nil {
		return false
	}
	half := time.Unix(a.dir.Now(), 0).Add(a.config.JWTLifetime / 2)
	expected := jwt.Expected{Issuer: "rollcall", Subject: string(c.caller.User), AnyAudience: jwt.Audience{socketAudience}, Time: half}
	return claims.ValidateWithLeeway(expected, 0) == nil && claims.Token == string(c.caller.Token) && claims.App == string(c.caller.App)
}

// identityClaims tell somebody else who the user is.
type identityClaims struct {
	jwt.Claims
	App         string `json:"app"`
	Role        string `json:"role"`
	Passthrough any    `json:"passthrough,omitempty"`
}

// createJWT issues a JWT that the app's own services can check with the keys at /.well-known/jwks.json.
func createJWT(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	var passthrough any
	if f.has("passthrough") {
		passthrough = f.members["passthrough"]
	}
	ids, seeds := c.api.config.Signer.IdentityKeys()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: ed25519.NewKeyFromSeed(seeds[ids[0]])},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", ids[0]))
	if err != nil {
		return answer{}, fmt.Errorf("sign JWT: %w", err)
	}
	now := time.Unix(c.api.dir.Now(), 0)
	text, err := jwt.Signed(signer).Claims(identityClaims{
		Claims: jwt.Claims{
			Issuer: "rollcall", Subject: string(c.caller.User), Audience: jwt.Audience{string(c.caller.App)}, IssuedAt: jwt.NewNumericDate(now),
			Expiry: jwt.NewNumericDate(now.Add(c.api.config.JWTLifetime)),
		},
		App: string(c.caller.App), Role: c.user.Role, Passthrough: passthrough,
	}).Serialize()
	if err != nil {
		return answer{}, fmt.Errorf("sign JWT: %w", err)
	}
	return data(api.JWT{JWT: text})
}

// getJWKS publishes the keys that check what createJWT issues.
func getJWKS(c *call) (answer, error) {
	ids, seeds := c.api.config.Signer.IdentityKeys()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, id := range ids {
		public := ed25519.NewKeyFromSeed(seeds[id]).Public()
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: public, KeyID: id, Algorithm: string(jose.EdDSA), Use: "sig"})
	}
	return written, writeJSON(c.w, 200, set)
}
