package directory

// Limits are the sizes and counts of contract rest.md section 10.4. A zero field means the contract's limit. Sizes of
// text are in Unicode code points, sizes of metadata in bytes of compact JSON.
type Limits struct {
	UID             int `json:"uid" help:"longest uid and role id, in characters; zero means 100"`
	Name            int `json:"name" help:"longest name of a user, role, key or app, in characters; zero means 100"`
	RoleDescription int `json:"roleDescription" help:"longest role description, in characters; zero means 255"`
	URL             int `json:"url" help:"longest avatar and link, in characters; zero means 3000"`
	StatusMessage   int `json:"statusMessage" help:"longest status message, in characters; zero means 1000"`
	Metadata        int `json:"metadata" help:"largest metadata of a user or role, in bytes of compact JSON; zero means 5120"`
	Tags            int `json:"tags" help:"most tags of a user; zero means 25"`
	MetadataKeys    int `json:"metadataKeys" help:"most metadata keys by which an app filters; zero means 10"`
	Tag             int `json:"tag" help:"longest tag, in characters; zero means 100"`
	TokensPerUser   int `json:"tokensPerUser" help:"auth tokens of a user that stay active, newest first; zero means 100"`
	KeysPerApp      int `json:"keysPerApp" help:"API keys of an app; zero means 25"`
	RolesPerApp     int `json:"rolesPerApp" help:"roles of an app; zero means 25"`
	Collaborators   int `json:"collaborators" help:"collaborators of an app; zero means 25"`
	Apps            int `json:"apps" help:"apps on this server; zero means 1000"`
	PageSize        int `json:"pageSize" help:"largest page of a list; zero means 1000"`
	BulkUIDs        int `json:"bulkUids" help:"uids in one bulk call and in the uids filter; zero means 25"`
	BatchUsers      int `json:"batchUsers" help:"users in one batch and in one lookup; zero means 1000"`
	ImportUsers     int `json:"importUsers" help:"users in one call of data_import; zero means 50"`
	FriendsPerUser  int `json:"friendsPerUser" help:"friends of a user, and its unanswered friend requests; zero means 1000"`
	BlocksPerUser   int `json:"blocksPerUser" help:"users that a user may block; zero means 10000"`
}

func (l Limits) orDefault() Limits {
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
