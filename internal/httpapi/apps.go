package httpapi

import (
	"slices"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

var regionNames = map[string]string{"us": "United States", "eu": "Europe", "in": "India"}

// showApp returns an app, as the contract knows it, and what else there is to it.
func (c *call) showApp(app directory.App) (api.App, api.Addition) {
	shown := api.App{
		ID: string(app.ID), Name: app.Name, Plan: "self-hosted", State: "active", Owner: app.Owner, Region: app.Region,
		CreatedAt: app.CreatedAt,
		AppRegion: api.AppRegion{ID: app.Region, Name: regionNames[app.Region], Description: "This server"},
	}
	if app.Owner != "" {
		shown.AppOwner = &api.AppOwner{ID: app.Owner, Name: app.Owner, Email: app.Owner}
	}
	if app.DeleteAt != 0 {
		shown.State = "archived"
	}
	settings := c.showSettings(app)
	return shown, api.Addition{Settings: &settings, ScheduledToDeleteAt: app.DeleteAt}
}

func (c *call) showSettings(app directory.App) api.AppSettings {
	settings := app.Settings
	indexing := c.api.dir.MetadataKeysIndexing(app.ID, settings.MetadataKeys)
	shown := api.AppSettings{
		RevealSecrets: settings.RevealSecrets, TokensValidFrom: settings.TokensValidFrom,
		DenyUserCreationByAuthOnlyKeys: settings.DenyUserCreationByAuthOnlyKeys,
		DenyRolesByAuthOnlyKeys:        settings.DenyRolesByAuthOnlyKeys,
		DenyEvictionByAuthOnlyKeys:     settings.DenyEvictionByAuthOnlyKeys,
	}
	for _, key := range settings.MetadataKeys {
		if slices.Contains(indexing, key) {
			shown.MetadataKeysIndexing = append(shown.MetadataKeysIndexing, key)
		} else {
			shown.MetadataKeys = append(shown.MetadataKeys, key)
		}
	}
	return shown
}

func createApp(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	wanted := directory.NewApp{
		ID: directory.AppID(f.text("id")), Name: f.text("name"), Region: f.text("region"), Owner: f.text("owner"),
		SampleUsers: !f.boolean("skipSampleData"),
	}
	f.pass("version") // there is one
	if err := f.err(); err != nil {
		return answer{}, err
	}
	created, err := c.api.dir.CreateApp(c.ctx(), c.caller.Actor, wanted)
	if err != nil {
		return answer{}, err
	}
	c.w.app = string(created.App.ID)
	shown, addition := c.showApp(created.App)
	shown.APIKeys = map[string]api.APIKey{}
	for _, key := range []directory.Key{created.FullAccess, created.AuthOnly} {
		shown.APIKeys[key.Text] = api.APIKey{
			Key: key.Text, Name: key.Name, Scope: string(key.Scope), CreatedBy: string(key.CreatedBy),
		}
	}
	return withItem(shown, addition)
}

func listApps(c *call) (answer, error) {
	q := c.query()
	search, page := q.text("searchKey"), q.page()
	if err := q.err(); err != nil {
		return answer{}, err
	}
	list, err := c.api.dir.ListApps(c.ctx(), search, page)
	if err != nil {
		return answer{}, err
	}
	return joined(list, c.showApp), nil
}

func (c *call) appAnswer(app directory.App, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	return withItem(c.showApp(app))
}

func getApp(c *call) (answer, error) {
	return c.appAnswer(c.api.dir.GetApp(c.ctx(), c.caller.App))
}

func updateApp(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	name := f.text("name")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	return c.appAnswer(c.api.dir.RenameApp(c.ctx(), c.caller, name))
}

func deleteApp(c *call) (answer, error) {
	if err := c.nothing(); err != nil {
		return answer{}, err
	}
	app, err := c.api.dir.DeleteApp(c.ctx(), c.caller)
	if err != nil {
		return answer{}, err
	}
	return data(api.DeleteAppResponse{Success: true, ScheduledToDeleteAt: app.DeleteAt})
}

func restoreApp(c *call) (answer, error) {
	if err := c.nothing(); err != nil {
		return answer{}, err
	}
	return c.appAnswer(c.api.dir.RestoreApp(c.ctx(), c.caller))
}

func getAppSettings(c *call) (answer, error) {
	app, err := c.api.dir.GetApp(c.ctx(), c.caller.App)
	if err != nil {
		return answer{}, err
	}
	return data(c.showSettings(app))
}

func updateAppSettings(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	patch := directory.AppSettingsPatch{
		RevealSecrets:                  f.maybeBoolean("revealSecrets"),
		DenyUserCreationByAuthOnlyKeys: f.maybeBoolean("denyUserCreationByAuthOnlyKeys"),
		DenyRolesByAuthOnlyKeys:        f.maybeBoolean("denyRolesByAuthOnlyKeys"),
		DenyEvictionByAuthOnlyKeys:     f.maybeBoolean("denyEvictionByAuthOnlyKeys"),
	}
	if f.has("tokensValidFrom") {
		from := f.unixTime("tokensValidFrom")
		patch.TokensValidFrom = &from
	}
	patch.MetadataKeys = f.maybeTexts("metadataKeys")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	app, err := c.api.dir.UpdateAppSettings(c.ctx(), c.caller, patch)
	if err != nil {
		return answer{}, err
	}
	return data(c.showSettings(app))
}

// getUsage answers at once with what the hosted service sends by e-mail: the figures of a calendar month.
func getUsage(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	previous := f.boolean("usePreviousBillingCycle")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	now := time.Unix(c.api.dir.Now(), 0).UTC()
	from := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if previous {
		from = from.AddDate(0, -1, 0)
	}
	to := from.AddDate(0, 1, 0).Add(-time.Second)
	usage, err := c.api.dir.Usage(c.ctx(), c.caller, from.Unix(), to.Unix())
	if err != nil {
		return answer{}, err
	}
	return data(api.Usage{Users: usage.Users, ActiveUsers: usage.ActiveUsers, FromDate: from.Unix(), ToDate: to.Unix()})
}

func showCollaborator(collaborator directory.Collaborator) api.Collaborator {
	return api.Collaborator(collaborator)
}

func listCollaborators(c *call) (answer, error) {
	q := c.query()
	page := q.page()
	if err := q.err(); err != nil {
		return answer{}, err
	}
	list, err := c.api.dir.ListCollaborators(c.ctx(), c.caller.App, page)
	if err != nil {
		return answer{}, err
	}
	return listOf(list, showCollaborator), nil
}

func addCollaborator(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	wanted := directory.Collaborator{Email: f.text("email"), Name: f.text("name"), Role: f.text("role")}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	added, err := c.api.dir.AddCollaborator(c.ctx(), c.caller, wanted)
	if err != nil {
		return answer{}, err
	}
	return data(showCollaborator(added))
}

func removeCollaborator(c *call) (answer, error) {
	if err := c.nothing(); err != nil {
		return answer{}, err
	}
	if err := c.api.dir.RemoveCollaborator(c.ctx(), c.caller, c.path("email")); err != nil {
		return answer{}, err
	}
	return success("The collaborator has been removed.")
}
