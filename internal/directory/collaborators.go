package directory

import (
	"context"
	"strings"
)

// Collaborator is someone who manages an app.
type Collaborator struct {
	Email     string
	Name      string
	Role      string // admin, moderator or developer
	CreatedAt int64
}

// collaboratorRoles are those of contract rest.md section 9.1.
var collaboratorRoles = []string{"admin", "moderator", "developer"}

// AddCollaborator gives somebody a role in managing an app; doing it again changes the role.
// Errors: CodeAppNotFound, CodeBadRequest, CodeAlreadyOwner, CodeQuota.
func (d *Directory) AddCollaborator(ctx context.Context, caller Caller, wanted Collaborator) (Collaborator, error) {
	var wrong FieldErrors
	wanted.Email = strings.ToLower(strings.TrimSpace(wanted.Email))
	checkEmail(&wrong, "email", wanted.Email)
	if wanted.Name != "" {
		d.checkName(&wrong, wanted.Name)
	}
	checkOneOf(&wrong, "role", wanted.Role, collaboratorRoles)
	if err := wrong.Err(); err != nil {
		return Collaborator{}, err
	}
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (Collaborator, error) {
		app, err := requireApp(tx, caller.App)
		if err != nil {
			return Collaborator{}, err
		}
		if strings.EqualFold(app.Owner, wanted.Email) {
			return Collaborator{}, fail(CodeAlreadyOwner, "%s owns this app already.", wanted.Email)
		}
		present, err := tx.Collaborators(app.ID)
		if err != nil {
			return Collaborator{}, err
		}
		wanted.CreatedAt = log.at
		known := false
		for _, other := range present {
			if other.Email == wanted.Email {
				wanted.CreatedAt, known = other.CreatedAt, true
				if other == wanted {
					return wanted, nil
				}
			}
		}
		if !known && len(present) >= d.limits.Collaborators {
			return Collaborator{}, fail(CodeQuota, "An app has at most %d collaborators.", d.limits.Collaborators)
		}
		if err := tx.PutCollaborator(app.ID, wanted); err != nil {
			return Collaborator{}, err
		}
		return wanted, log.append(CollaboratorAdded, wanted.Email, "role")
	})
}

// RemoveCollaborator ends somebody's role in managing an app. Errors: CodeAppNotFound, CodeNotCollaborator.
func (d *Directory) RemoveCollaborator(ctx context.Context, caller Caller, email string) error {
	email = strings.ToLower(strings.TrimSpace(email))
	_, err := write(ctx, d, caller, nil, func(tx Writer, log *logbook) (struct{}, error) {
		if _, err := requireApp(tx, caller.App); err != nil {
			return struct{}{}, err
		}
		present, err := tx.Collaborators(caller.App)
		if err != nil {
			return struct{}{}, err
		}
		for _, other := range present {
			if other.Email == email {
				if err := tx.DeleteCollaborator(caller.App, email); err != nil {
					return struct{}{}, err
				}
				return struct{}{}, log.append(CollaboratorRemoved, email)
			}
		}
		return struct{}{}, fail(CodeNotCollaborator, "%s is not a collaborator of this app.", email)
	})
	return err
}

// ListCollaborators lists who manages an app, oldest first. Errors: CodeAppNotFound.
func (d *Directory) ListCollaborators(ctx context.Context, app AppID, page Page) (list List[Collaborator], err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		if _, err := requireApp(tx, app); err != nil {
			return err
		}
		all, err := tx.Collaborators(app)
		list = PageOf(all, page)
		return err
	})
	return list, err
}
