package client

import "github.com/rollcall/rollcall/api"

// join puts what the server tells beside the data of an answer, which has the contract's members alone, where the types
// of this library have it.
func join(data any, meta *api.Meta) {
	if meta == nil {
		return
	}
	switch data := data.(type) {
	case *api.AuthToken:
		if meta.Item != nil {
			data.ID, data.DeviceID = meta.Item.ID, meta.Item.DeviceID
		}
	case *[]api.AuthToken:
		for i := range min(len(*data), len(meta.Items)) {
			(*data)[i].ID, (*data)[i].DeviceID = meta.Items[i].ID, meta.Items[i].DeviceID
		}
	case *api.APIKey:
		if meta.Item != nil {
			joinKey(data, *meta.Item)
		}
	case *[]api.APIKey:
		for i := range min(len(*data), len(meta.Items)) {
			joinKey(&(*data)[i], meta.Items[i])
		}
	case *api.App:
		if meta.Item != nil {
			joinApp(data, *meta.Item)
		}
	case *[]api.App:
		for i := range min(len(*data), len(meta.Items)) {
			joinApp(&(*data)[i], meta.Items[i])
		}
	case *[]api.Permission:
		for i := range *data {
			(*data)[i].Value = meta.Permissions[(*data)[i].ID]
		}
	case *api.RevokedResponse:
		setIfThere(&data.RevokedTokens, meta.RevokedTokens)
		setIfThere(&data.ClosedSockets, meta.ClosedSockets)
	case *api.DeactivateUsersResponse:
		setIfThere(&data.ClosedSockets, meta.ClosedSockets)
	case *api.AddFriendsResponse:
		joinCodes(data.Accepted, meta.Codes)
	case *map[string]api.ItemResult:
		joinCodes(*data, meta.Codes)
	}
}

func joinKey(key *api.APIKey, addition api.Addition) {
	key.ID, key.CreatedBy, key.Replaces = addition.ID, addition.CreatedBy, addition.Replaces
	key.ExpiresAt, key.LastUsedAt = addition.ExpiresAt, addition.LastUsedAt
}

func joinApp(app *api.App, addition api.Addition) {
	if addition.Settings != nil {
		app.Settings = *addition.Settings
	}
	app.ScheduledToDeleteAt = addition.ScheduledToDeleteAt
}

func joinCodes(items map[string]api.ItemResult, codes map[string]api.Code) {
	for name, code := range codes {
		if item, there := items[name]; there {
			item.Code = code
			items[name] = item
		}
	}
}

func setIfThere(field, value *int) {
	if value != nil {
		*field = *value
	}
}
