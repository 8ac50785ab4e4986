package httpapi

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/socketjwt"
)

// signSocketJWT issues the short-lived token that the socket authenticates with.
func (a *API) signSocketJWT(c *call) string {
	now := a.dir.Now()
	return a.config.SocketSigner.Sign(socketjwt.Claims{
		App: string(c.caller.App), UID: string(c.caller.User), Token: string(c.caller.Token),
		IssuedAt: now, ExpiresAt: now + int64(a.config.JWTLifetime/time.Second),
	})
}

// jwtOutlasts reports whether the request's socket JWT is this caller's and is good for some time to come.
func (a *API) jwtOutlasts(c *call, span time.Duration) bool {
	text, ok := strings.CutPrefix(headerValue(c.r, "Authorization"), "Bearer ")
	if !ok {
		return false
	}
	claims, err := a.config.SocketSigner.Verify(text, time.Unix(a.dir.Now(), 0).Add(span))
	return err == nil && claims.UID == string(c.caller.User) && claims.Token == string(c.caller.Token) &&
		claims.App == string(c.caller.App)
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
		passthrough = f.value("passthrough")
	}
	if err := f.err(); err != nil {
		return answer{}, err
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
			Issuer: "rollcall", Subject: string(c.caller.User), Audience: jwt.Audience{string(c.caller.App)},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(c.api.config.JWTLifetime)),
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
