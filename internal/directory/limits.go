package directory

// Limits are the sizes and counts of contract rest.md section 10.4. A zero field means the contract's limit. Sizes of
// text are in Unicode code points, sizes of metadata in bytes of compact JSON.
type Limits struct {
	UID             int `json:"uid" help:"longest uid and role id, in characters"`
	Name            int `json:"name" help:"longest name of a user, role, key or app, in characters"`
	RoleDescription int `json:"roleDescription" help:"longest role description, in characters"`
	URL             int `json:"url" help:"longest avatar and link, in characters"`
	StatusMessage   int `json:"statusMessage" help:"longest status message, in characters"`
	Metadata        int `json:"metadata" help:"largest metadata of a user or role, in bytes of compact JSON"`
	Tags            int `json:"tags" help:"most tags of a user"`
	MetadataKeys    int `json:"metadataKeys" help:"most metadata keys by which an app filters"`
	Tag             int `json:"tag" help:"longest tag, in characters"`
	TokensPerUser   int `json:"tokensPerUser" help:"auth tokens of a user that stay active, newest first"`
	KeysPerApp      int `json:"keysPerApp" help:"API keys of an app"`
	RolesPerApp     int `json:"rolesPerApp" help:"roles of an app"`
	Collaborators   int `json:"collaborators" help:"collaborators of an app"`
	Apps            int `json:"apps" help:"apps on this server"`
	PageSize        int `json:"pageSize" help:"largest page of a list"`
	BulkUIDs        int `json:"bulkUids" help:"uids in one bulk call and in the uids filter"`
	BatchUsers      int `json:"batchUsers" help:"users in one batch and in one lookup"`
	ImportUsers     int `json:"importUsers" help:"users in one call of data_import"`
	FriendsPerUser  int `json:"friendsPerUser" help:"friends of a user, and its unanswered friend requests"`
	BlocksPerUser   int `json:"blocksPerUser" help:"users that a user may block"`
}

// OrDefault returns the limits with the contract's in the place of those that are not positive.
func (l Limits) OrDefault() Limits {
	for _, limit := range []struct {
		field *int
		value int
	}{
		{&l.UID, 100},
		{&l.Name, 100},
		{&l.RoleDescription, 255},
		{&l.URL, 3000},
		{&l.StatusMessage, 1000},
		{&l.Metadata, 5 << 10},
		{&l.Tags, 25},
		{&l.MetadataKeys, 10},
		{&l.Tag, 100},
		{&l.TokensPerUser, 100},
		{&l.KeysPerApp, 25},
		{&l.RolesPerApp, 25},
		{&l.Collaborators, 25},
		{&l.Apps, 1000},
		{&l.PageSize, 1000},
		{&l.BulkUIDs, 25},
		{&l.BatchUsers, 1000},
		{&l.ImportUsers, 50},
		{&l.FriendsPerUser, 1000},
		{&l.BlocksPerUser, 10_000},
	} {
		if *limit.field <= 0 {
			*limit.field = limit.value
		}
	}
	return l
}
