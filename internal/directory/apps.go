package directory

import (
	"context"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/searchtext"
)

// AppID identifies an app: 16 lower-case hex digits when made by the server.
type AppID string

// App is one customer application with users, roles and keys of its own.
type App struct {
	ID     AppID
	Name   string
	Region string
	// Owner is the e-mail address that the app was created for. It may be empty.
	Owner    string
	Settings AppSettings
	// Salt makes the tombstones of the app unlike those of any other.
	Salt      []byte
	CreatedAt int64
	// DeleteAt is when an archived app is purged, in Unix seconds; 0 for an active app.
	DeleteAt int64
}

// AppSettings are what an operator can set on one app. The zero value is the default.
type AppSettings struct {
	// RevealSecrets lets lists of keys and auth tokens show them in full to callers entitled to them.
	RevealSecrets bool `json:"revealSecrets"`
	// DenyUserCreationByAuthOnlyKeys keeps authOnly keys from creating users.
	DenyUserCreationByAuthOnlyKeys bool `json:"denyUserCreationByAuthOnlyKeys"`
	// DenyRolesByAuthOnlyKeys keeps authOnly keys from giving users another role than they have, or new ones than the
	// default.
	DenyRolesByAuthOnlyKeys bool `json:"denyRolesByAuthOnlyKeys,omitempty"`
	// DenyEvictionByAuthOnlyKeys keeps authOnly keys from minting auth tokens in the place of others.
	DenyEvictionByAuthOnlyKeys bool `json:"denyEvictionByAuthOnlyKeys,omitempty"`
	// TokensValidFrom, in Unix seconds, revokes every auth token of the app that was issued before it.
	TokensValidFrom int64 `json:"tokensValidFrom"`
	// MetadataKeys are the members of users' metadata by whose values lists can be filtered.
	MetadataKeys []string `json:"metadataKeys,omitempty"`
}

// AppSettingsPatch holds the settings to change. Nil fields stay as they are.
type AppSettingsPatch struct {
	RevealSecrets                  *bool
	DenyUserCreationByAuthOnlyKeys *bool
	DenyRolesByAuthOnlyKeys        *bool
	DenyEvictionByAuthOnlyKeys     *bool
	TokensValidFrom                *int64
	MetadataKeys                   *[]string
}

// NewApp is what CreateApp needs.
type NewApp struct {
	// ID is the id to use. Empty means a random one.
	ID     AppID
	Name   string
	Region string
	Owner  string
	// FullAccessKey and AuthOnlyKey are the texts of the first keys. Empty means random ones.
	FullAccessKey, AuthOnlyKey string
	Settings                   AppSettings
	// SampleUsers adds the users that a new app of the hosted service has: cometchat-uid-1 to 5.
	SampleUsers bool
}

// CreatedApp is a new app with its first keys.
type CreatedApp struct {
	App        App
	FullAccess Key
	AuthOnly   Key
}

var regions = []string{"us", "eu", "in"}

// archivedFor is how long a deleted app can be restored, in seconds (contract rest.md section 9.1).
const archivedFor = 30 * 24 * 3600

// NewAppID returns a fresh app id.
func (d *Directory) NewAppID() string { return d.randomHex(8) }

// CreateApp makes an app with the default role and one key of each scope.
// Errors: CodeBadRequest, CodeAppLimit.
func (d *Directory) CreateApp(ctx context.Context, actor Actor, wanted NewApp) (CreatedApp, error) {
	wanted.Name = strings.TrimSpace(wanted.Name)
	wanted.Region = strings.ToLower(strings.TrimSpace(wanted.Region))
	var wrong FieldErrors
	d.checkName(&wrong, wanted.Name)
	if wanted.Region != "" {
		checkOneOf(&wrong, "region", wanted.Region, regions)
	}
	if wanted.Owner != "" {
		checkEmail(&wrong, "owner", wanted.Owner)
	}
	if wanted.ID != "" && !validUID(string(wanted.ID), d.limits.UID) {
		wrong.Add("id", "The id may hold letters, digits, - and _, at most %d of them.", d.limits.UID)
	}
	if err := wrong.Err(); err != nil {
		return CreatedApp{}, err
	}
	if wanted.Region == "" {
		wanted.Region = regions[0]
	}
	if wanted.ID == "" {
		wanted.ID = AppID(d.NewAppID())
	}
	wanted.ID = AppID(strings.ToLower(string(wanted.ID)))
	caller := Caller{App: wanted.ID, Actor: actor}
	select { // two apps made at once would not count each other
	case d.makingApp <- struct{}{}:
		defer func() { <-d.makingApp }()
	case <-ctx.Done():
		return CreatedApp{}, ctx.Err()
	}
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (CreatedApp, error) {
		if count, err := tx.CountApps(); err != nil {
			return CreatedApp{}, err
		} else if count >= d.limits.Apps {
			return CreatedApp{}, fail(CodeAppLimit, "This server is set to hold at most %d apps.", d.limits.Apps)
		}
		if _, exists, err := tx.App(wanted.ID); err != nil {
			return CreatedApp{}, err
		} else if exists {
			return CreatedApp{}, &Error{
				Code: CodeBadRequest, Message: "An app with this id exists already.",
				Details: map[string][]string{"id": {"The id has already been taken."}},
			}
		}
		created := CreatedApp{App: App{
			ID: wanted.ID, Name: wanted.Name, Region: wanted.Region, Owner: wanted.Owner, Settings: wanted.Settings,
			Salt: []byte(d.randomHex(16)), CreatedAt: log.at,
		}}
		if err := tx.PutApp(created.App); err != nil {
			return CreatedApp{}, err
		}
		if err := log.append(AppCreated, string(wanted.ID)); err != nil {
			return CreatedApp{}, err
		}
		role := Role{ID: DefaultRole, Name: "Default Role", CreatedAt: log.at}
		if err := tx.PutRole(wanted.ID, role); err != nil {
			return CreatedApp{}, err
		}
		if err := log.append(RoleCreated, role.ID); err != nil {
			return CreatedApp{}, err
		}
		var err error
		if created.FullAccess, err = d.addKey(tx, log, "REST API Key", FullAccess, wanted.FullAccessKey); err != nil {
			return CreatedApp{}, err
		}
		if created.AuthOnly, err = d.addKey(tx, log, "Auth Key", AuthOnly, wanted.AuthOnlyKey); err != nil {
			return CreatedApp{}, err
		}
		if wanted.SampleUsers {
			err = d.addSampleUsers(tx, log)
		}
		return created, err
	})
}

// GetApp returns an app, archived or not. Errors: CodeAppNotFound.
func (d *Directory) GetApp(ctx context.Context, id AppID) (app App, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		app, err = requireApp(tx, id)
		return err
	})
	return app, err
}

func requireApp(tx Reader, id AppID) (App, error) {
	app, found, err := tx.App(id)
	if err == nil && !found {
		err = fail(CodeAppNotFound, "There is no app with the id %s.", id)
	}
	return app, err
}

// ListApps lists the apps whose id or name contains search, in capitals or not, newest first.
func (d *Directory) ListApps(ctx context.Context, search string, page Page) (List[App], error) {
	list := List[App]{Page: page.orDefault()}
	apps, err := d.allApps(ctx)
	if err != nil {
		return list, err
	}
	if part := strings.ToLower(strings.TrimSpace(search)); part != "" {
		folded := searchtext.Fold(search)
		apps = slices.DeleteFunc(apps, func(app App) bool {
			return !strings.Contains(string(app.ID), part) && !strings.Contains(strings.ToLower(app.Name), part) &&
				(folded == "" || !strings.Contains(searchtext.Fold(app.Name), folded))
		})
	}
	list.Total = len(apps)
	begin := min(list.Page.offset(), len(apps))
	list.Items = apps[begin:min(begin+list.Page.Size, len(apps))]
	return list, nil
}

// allApps returns every app, archived or not, newest first.
func (d *Directory) allApps(ctx context.Context) (apps []App, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		apps, err = tx.Apps()
		return err
	})
	return apps, err
}

// updateApp applies change to an app and logs it when it changed something. change names the fields it changed.
func (d *Directory) updateApp(
	ctx context.Context, caller Caller, kind Kind, change func(app *App, now int64) ([]string, error),
) (App, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (App, error) {
		app, err := requireApp(tx, caller.App)
		if err != nil {
			return App{}, err
		}
		fields, err := change(&app, log.at)
		if err != nil || len(fields) == 0 {
			return app, err
		}
		if err := tx.PutApp(app); err != nil {
			return App{}, err
		}
		return app, log.append(kind, string(app.ID), fields...)
	})
}

// RenameApp gives an app another name. Errors: CodeAppNotFound, CodeBadRequest.
func (d *Directory) RenameApp(ctx context.Context, caller Caller, name string) (App, error) {
	var wrong FieldErrors
	name = strings.TrimSpace(name)
	d.checkName(&wrong, name)
	if err := wrong.Err(); err != nil {
		return App{}, err
	}
	return d.updateApp(ctx, caller, AppUpdated, func(app *App, _ int64) ([]string, error) {
		var fields []string
		setField(&fields, "name", &app.Name, name)
		return fields, nil
	})
}

// UpdateAppSettings changes settings of an app; a TokensValidFrom to come is taken as now. When metadata keys change,
// the users are read again, in the background, until when lists cannot be filtered by new ones. Errors:
// CodeAppNotFound, CodeBadRequest.
func (d *Directory) UpdateAppSettings(ctx context.Context, caller Caller, patch AppSettingsPatch) (App, error) {
	if patch.MetadataKeys != nil {
		var wrong FieldErrors
		d.checkMetadataKeys(&wrong, *patch.MetadataKeys)
		if err := wrong.Err(); err != nil {
			return App{}, err
		}
	}
	return d.updateApp(ctx, caller, AppUpdated, func(app *App, now int64) ([]string, error) {
		var fields []string
		settings := &app.Settings
		for _, flag := range []struct {
			name   string
			stored *bool
			value  *bool
		}{
			{"settings.revealSecrets", &settings.RevealSecrets, patch.RevealSecrets},
			{
				"settings.denyUserCreationByAuthOnlyKeys", &settings.DenyUserCreationByAuthOnlyKeys,
				patch.DenyUserCreationByAuthOnlyKeys,
			},
			{"settings.denyRolesByAuthOnlyKeys", &settings.DenyRolesByAuthOnlyKeys, patch.DenyRolesByAuthOnlyKeys},
			{"settings.denyEvictionByAuthOnlyKeys", &settings.DenyEvictionByAuthOnlyKeys, patch.DenyEvictionByAuthOnlyKeys},
		} {
			if flag.value != nil {
				setField(&fields, flag.name, flag.stored, *flag.value)
			}
		}
		if patch.TokensValidFrom != nil {
			setField(&fields, fieldTokensValidFrom, &settings.TokensValidFrom, min(*patch.TokensValidFrom, now))
		}
		if patch.MetadataKeys != nil {
			if declared := *patch.MetadataKeys; !slices.Equal(declared, settings.MetadataKeys) {
				settings.MetadataKeys, fields = declared, append(fields, "settings.metadataKeys")
			}
		}
		return fields, nil
	})
}

// DeleteApp archives an app: it answers nobody from now on and is purged after 30 days, unless it is restored before.
// Errors: CodeAppNotFound.
func (d *Directory) DeleteApp(ctx context.Context, caller Caller) (App, error) {
	return d.updateApp(ctx, caller, AppArchived, func(app *App, now int64) ([]string, error) {
		if app.DeleteAt != 0 {
			return nil, nil
		}
		app.DeleteAt = now + archivedFor
		return []string{"deleteAt"}, nil
	})
}

// RestoreApp takes back the deletion of an app that is not purged yet. Errors: CodeAppNotFound.
func (d *Directory) RestoreApp(ctx context.Context, caller Caller) (App, error) {
	return d.updateApp(ctx, caller, AppRestored, func(app *App, _ int64) ([]string, error) {
		var fields []string
		setField(&fields, "deleteAt", &app.DeleteAt, 0)
		return fields, nil
	})
}

// RemembersApp reports whether an app is one that was used since the server was started, without asking the store.
func (d *Directory) RemembersApp(id AppID) bool { return d.apps.hasSeen(id) }

func (d *Directory) loadPolicy(ctx context.Context, id AppID) (*Policy, error) {
	policy := &Policy{keys: map[string]Key{}, roles: map[string]Role{}}
	err := d.store.View(ctx, func(tx Reader) error {
		app, found, err := tx.App(id)
		if err != nil {
			return err
		}
		if !found {
			return fail(CodeInvalidApp, "There is no app with the id %s. Check the appId header and the server's address.", id)
		}
		policy.App = app
		keys, err := tx.Keys(id)
		if err != nil {
			return err
		}
		for _, key := range keys {
			policy.keys[string(key.Hash)] = key
		}
		roles, err := tx.Roles(id)
		if err != nil {
			return err
		}
		for _, role := range roles {
			policy.roles[role.ID] = role
		}
		return nil
	})
	return policy, err
}
