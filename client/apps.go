package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/rollcall/rollcall/api"
)

// AppsService makes the management calls. It needs WithManagement.
type AppsService struct{ service }

func appPath(id string) string { return "/apps/" + segment(id) }

// Create makes an app. Its keys are shown in this answer only.
func (s *AppsService) Create(ctx context.Context, request api.CreateAppRequest) (api.App, error) {
	return post[api.App](ctx, s.service, "/apps", request)
}

// List returns one page of apps whose id or name contains search, newest first.
func (s *AppsService) List(ctx context.Context, search string, options PageOptions) (Page[api.App], error) {
	query := options.query()
	if search != "" {
		query.Set("searchKey", search)
	}
	return list[api.App](ctx, s.service, "/apps", query)
}

// Get returns an app. Code: ERR_APP_NOT_FOUND.
func (s *AppsService) Get(ctx context.Context, id string) (api.App, error) {
	return get[api.App](ctx, s.service, appPath(id), nil)
}

// Update renames an app.
func (s *AppsService) Update(ctx context.Context, id string, request api.UpdateAppRequest) (api.App, error) {
	return put[api.App](ctx, s.service, appPath(id), request)
}

// Delete archives an app. It is purged after 30 days unless it is restored.
func (s *AppsService) Delete(ctx context.Context, id string) (api.DeleteAppResponse, error) {
	return remove[api.DeleteAppResponse](ctx, s.service, appPath(id), nil)
}

// Restore takes back Delete.
func (s *AppsService) Restore(ctx context.Context, id string) (api.App, error) {
	return post[api.App](ctx, s.service, appPath(id)+"/restore", nil)
}

// Settings returns the settings of an app.
func (s *AppsService) Settings(ctx context.Context, id string) (api.AppSettings, error) {
	return get[api.AppSettings](ctx, s.service, appPath(id)+"/settings", nil)
}

// UpdateSettings changes the settings of an app that request sets.
func (s *AppsService) UpdateSettings(
	ctx context.Context, id string, request api.UpdateAppSettingsRequest,
) (api.AppSettings, error) {
	return post[api.AppSettings](ctx, s.service, appPath(id)+"/settings", request)
}

// Usage counts the users of an app in the current or the previous month.
func (s *AppsService) Usage(ctx context.Context, id string, request api.UsageRequest) (api.Usage, error) {
	return post[api.Usage](ctx, s.service, appPath(id)+"/usage", request)
}

// Collaborators returns one page of those who manage an app.
func (s *AppsService) Collaborators(
	ctx context.Context, id string, options PageOptions,
) (Page[api.Collaborator], error) {
	return list[api.Collaborator](ctx, s.service, appPath(id)+"/collaborators", options.query())
}

// AddCollaborator gives somebody a role in managing an app.
func (s *AppsService) AddCollaborator(
	ctx context.Context, id string, request api.Collaborator,
) (api.Collaborator, error) {
	return post[api.Collaborator](ctx, s.service, appPath(id)+"/collaborators", request)
}

// RemoveCollaborator ends somebody's role in managing an app.
func (s *AppsService) RemoveCollaborator(ctx context.Context, id, email string) error {
	_, err := remove[api.Success](ctx, s.service, appPath(id)+"/collaborators/"+segment(email), nil)
	return err
}

// StatsService calls /stats.
type StatsService struct{ service }

// Get counts the users who logged in between two times in Unix seconds, by whole days of UTC.
func (s *StatsService) Get(ctx context.Context, from, to int64) (api.Stats, error) {
	return get[api.Stats](ctx, s.service, "/stats", url.Values{
		"fromDate": {strconv.FormatInt(from, 10)}, "toDate": {strconv.FormatInt(to, 10)},
	})
}
