package httpapi

import (
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// showKey returns an API key, as the contract knows it, and what else there is to it. Its text is masked unless the
// caller has it already or the app reveals secrets.
func showKey(app directory.App, key directory.Key, known bool) (api.APIKey, api.Addition) {
	shown := api.APIKey{Key: key.Text, Name: key.Name, Scope: string(key.Scope), CreatedAt: key.CreatedAt}
	if !known && !app.Settings.RevealSecrets {
		shown.Key = mask(key.Text)
	}
	return shown, api.Addition{
		ID: string(key.ID), CreatedBy: string(key.CreatedBy), ExpiresAt: key.ExpiresAt, LastUsedAt: key.LastUsedAt,
	}
}

func createAPIKey(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	wanted := directory.NewKey{Name: f.text("name"), Scope: directory.Scope(f.text("scope"))}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	key, err := c.api.dir.CreateKey(c.ctx(), c.caller, wanted)
	if err != nil {
		return answer{}, err
	}
	return withItem(showKey(c.policy.App, key, true))
}

func listAPIKeys(c *call) (answer, error) {
	q := c.query()
	keys := directory.KeyQuery{Scope: directory.Scope(q.text("scope")), Search: q.text("searchKey"), Page: q.page()}
	if err := q.err(); err != nil {
		return answer{}, err
	}
	list, err := c.api.dir.ListKeys(c.ctx(), c.caller, keys)
	if err != nil {
		return answer{}, err
	}
	return joined(list, func(key directory.Key) (api.APIKey, api.Addition) {
		return showKey(c.policy.App, key, false)
	}), nil
}

func getAPIKey(c *call) (answer, error) {
	key, err := c.api.dir.GetKey(c.ctx(), c.caller, c.path("apiKey"))
	if err != nil {
		return answer{}, err
	}
	return withItem(showKey(c.policy.App, key, key.Text == c.path("apiKey")))
}

func updateAPIKey(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	patch := directory.KeyPatch{Name: f.maybeText("name")}
	if scope := f.maybeText("scope"); scope != nil {
		patch.Scope = (*directory.Scope)(scope)
	}
	f.pass("apiKey", "createdAt") // of a key that was read
	if err := f.err(); err != nil {
		return answer{}, err
	}
	key, err := c.api.dir.UpdateKey(c.ctx(), c.caller, c.path("apiKey"), patch)
	if err != nil {
		return answer{}, err
	}
	return withItem(showKey(c.policy.App, key, key.Text == c.path("apiKey")))
}

func rotateAPIKey(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	grace := directory.DefaultKeyGrace
	if seconds := f.maybeSeconds("graceSeconds"); seconds != nil {
		grace = time.Duration(min(*seconds, int64(directory.MaxKeyGrace/time.Second)+1)) * time.Second
	}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.RotateKey(c.ctx(), c.caller, c.path("apiKey"), grace)
	if err != nil {
		return answer{}, err
	}
	shown, addition := showKey(c.policy.App, done.Key, true)
	addition.Replaces = &api.ReplacedKey{ID: string(done.Replaced.ID), ExpiresAt: done.Replaced.ExpiresAt}
	return withItem(shown, addition)
}

func deleteAPIKey(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	revokeTokens := f.boolean("revokeTokens")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.DeleteKey(c.ctx(), c.caller, c.path("apiKey"), revokeTokens)
	if err != nil {
		return answer{}, err
	}
	return revoked(done, "The API key has been deleted.")
}
