package httpapi

import (
	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

func explainVisibility(c *call) (answer, error) {
	q := c.query()
	viewer, subject := q.text("viewer"), q.text("subject")
	for name, value := range map[string]string{"viewer": viewer, "subject": subject} {
		if value == "" {
			q.wrong.Add(name, "The %s field is required.", name)
		}
	}
	if err := q.err(); err != nil {
		return answer{}, err
	}
	e, err := c.api.dir.ExplainVisibility(c.ctx(), c.caller, c.policy, c.shownID(viewer), c.shownID(subject))
	if err != nil {
		return answer{}, err
	}
	return data(api.Explanation{
		Viewer: string(e.Viewer.UID), Subject: string(e.Subject.UID), Relation: api.Relation(e.Relation),
		Listed: e.Visibility.Listed, Detailed: e.Visibility.Detailed, Presence: e.Visibility.Presence,
		Contact: e.Visibility.Contact, Rule: e.Visibility.Rule,
	})
}

// canContact answers the app's own messaging backend.
func canContact(c *call) (answer, error) {
	e, err := c.api.dir.ExplainVisibility(c.ctx(), c.caller, c.policy, c.pathID("uid"), c.pathID("other"))
	if err != nil {
		return answer{}, err
	}
	shown := api.ContactResponse{CanContact: e.Visibility.Contact, Rule: e.Visibility.Rule}
	switch {
	case e.Visibility.Contact:
	case e.Visibility.Rule == directory.RuleBlockedByMe:
		shown.Code = api.CodeBlockedReceiver
	case e.Visibility.Rule == directory.RuleHasBlockedMe:
		shown.Code = api.CodeBlockedSender
	case e.Visibility.Rule == directory.RuleDeactivated, e.Visibility.Rule == directory.RuleViewerGone:
		shown.Code = api.CodeUIDNotFound
	default:
		shown.Code = api.CodePermissionDenied
	}
	return data(shown)
}
