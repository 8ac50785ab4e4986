package httpapi

import (
	"encoding/json"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

func showRole(role directory.Role) api.Role {
	shown := api.Role{
		Role: role.ID, Name: role.Name, Description: role.Description, Metadata: role.Metadata, CreatedAt: role.CreatedAt,
		UpdatedAt: role.UpdatedAt,
	}
	if role.Settings != (directory.RoleSettings{}) {
		shown.Settings = &api.RoleSettings{ListUsers: role.Settings.ListUsers, SendMessagesTo: role.Settings.SendMessagesTo}
	}
	return shown
}

func (f *fields) roleSettings() *directory.RoleSettings {
	if !f.has("settings") {
		return nil
	}
	object := f.object("settings")
	if object == nil {
		return &directory.RoleSettings{}
	}
	inner, err := decodeFields(object)
	if err != nil {
		f.wrong.Add("settings", "The settings must be a JSON object.")
		return nil
	}
	settings := &directory.RoleSettings{ListUsers: inner.text("listUsers"), SendMessagesTo: inner.text("sendMessagesTo")}
	for name, problems := range inner.wrong {
		f.wrong.Add("settings."+name, "%s", problems[0])
	}
	f.adopt(inner, "settings.")
	return settings
}

func createRole(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	role := directory.Role{
		ID: f.text("role"), Name: f.text("name"), Description: f.text("description"), Metadata: f.object("metadata"),
	}
	if settings := f.roleSettings(); settings != nil {
		role.Settings = *settings
	}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	created, err := c.api.dir.CreateRole(c.ctx(), c.caller, role)
	if err != nil {
		return answer{}, err
	}
	return data(showRole(created))
}

func listRoles(c *call) (answer, error) {
	q := c.query()
	page := q.page()
	if err := q.err(); err != nil {
		return answer{}, err
	}
	list, err := c.api.dir.ListRoles(c.ctx(), c.caller, page)
	if err != nil {
		return answer{}, err
	}
	return listOf(list, showRole), nil
}

func getRole(c *call) (answer, error) {
	role, err := c.api.dir.GetRole(c.ctx(), c.caller, c.pathID("role"))
	if err != nil {
		return answer{}, err
	}
	return data(showRole(role))
}

func updateRole(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	patch := directory.RolePatch{
		Name: f.maybeText("name"), Description: f.maybeText("description"), Metadata: f.maybeObject("metadata"),
		Settings: f.roleSettings(),
	}
	f.pass("role", "createdAt", "updatedAt") // of a role that was read
	empty, none := "", json.RawMessage(nil)
	f.unset(map[string]func(){
		"description": func() { patch.Description = &empty },
		"metadata":    func() { patch.Metadata = &none },
		"settings":    func() { patch.Settings = &directory.RoleSettings{} },
	})
	if err := f.err(); err != nil {
		return answer{}, err
	}
	role, err := c.api.dir.UpdateRole(c.ctx(), c.caller, c.pathID("role"), patch)
	if err != nil {
		return answer{}, err
	}
	return data(showRole(role))
}

func deleteRole(c *call) (answer, error) {
	if err := c.nothing(); err != nil {
		return answer{}, err
	}
	if err := c.api.dir.DeleteRole(c.ctx(), c.caller, c.pathID("role")); err != nil {
		return answer{}, err
	}
	return success("The role has been deleted; its users have the default role now.")
}
