package directory_test

import (
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

// TestFeatures restricts every feature that the reference documents, and some that it does not.
func TestFeatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	documented := strings.Fields(
		`addMember ban blockUser changeScope createCall createGroup createMessage createMessageThread deleteCall
		deleteConversationForUser deleteGroup deleteGroupMessages deleteMessage getBlockedUsers getCall getConversation
		getGroup getGroupMessages getMember getMessage getMyDetails getUser getUserMessages joinGroup kickMember leaveGroup
		listBannedUsers listCalls listConversations listGroupMembers listGroups listMessages listSettings
		listThreadedMessages listUsers logout massMemberOperate patchOwner unban unblockUser updateAuthToken updateCall
		updateGroup updateMessage`,
	)
	enforced := 0
	for _, name := range documented {
		for _, sent := range []string{name, "u." + name, strings.ToUpper(name)} {
			outcomes, err := w.RestrictFeatures(t.Context(), w.backend, "default", []string{sent})
			if err != nil || len(outcomes) != 1 || outcomes[0].Err != nil || outcomes[0].ID != "u."+name {
				t.Errorf("%s: %+v %v", sent, outcomes, err)
			}
		}
		if directory.IsEnforced("u." + name) {
			enforced++
		}
	}
	if role, err := w.GetRole(t.Context(), w.backend, "default"); err != nil || len(role.Restricted) != len(documented) ||
		enforced != 9 {
		t.Errorf("%d features are restricted, %d enforced: %v", len(role.Restricted), enforced, err)
	}
	for sent, nearest := range map[string]string{
		"listUser": "u.listUsers", "u.listuser": "u.listUsers", "blockUsers": "u.blockUser", "unblockUsers": "u.unblockUser",
		"joingroups":   "u.joinGroup",
		"deleteMesage": "u.deleteMessage", "kickMembers": "u.kickMember", "logOut ": "u.logout",
		"Send a message": "u.sendMessage", "fly": "", "": "", strings.Repeat("listUsers", 100): "",
	} {
		outcomes, err := w.RestrictFeatures(t.Context(), w.backend, "default", []string{sent})
		if err != nil || outcomes[0].Err == nil {
			t.Errorf("%.60q: %+v %v", sent, outcomes, err)
			continue
		}
		if message := outcomes[0].Err.Message; strings.Contains(message, "?") != (nearest != "") ||
			!strings.Contains(message, nearest) {
			t.Errorf("%.60q: %s", sent, message)
		}
	}
	if err := w.AllowFeatures(t.Context(), w.backend, "default", []string{"listUsers", "listUser"},
		false); !directory.IsCode(
		err,
		directory.CodeBadRequest,
	) {
		t.Errorf("a slip among the features to allow: %v", err)
	}
	if err := w.AllowFeatures(t.Context(), w.backend, "default", documented, false); err != nil {
		t.Error(err)
	}
	if role, err := w.GetRole(t.Context(), w.backend, "default"); err != nil || len(role.Restricted) != 0 {
		t.Errorf("still restricted: %v %v", role.Restricted, err)
	}
}
