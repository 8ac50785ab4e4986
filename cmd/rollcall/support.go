package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// userPresence is what `rollcall presence --json` prints.
type userPresence struct {
	UID string `json:"uid"`
	// State is online, invisible, active or deactivated, and Why says in words how that came about.
	State string `json:"state"`
	Why   string `json:"why"`
	// Status is how the user presents itself: available, away, busy, invisible or offline.
	Status       string `json:"status"`
	StatusText   string `json:"statusText,omitempty"`
	LastActiveAt int64  `json:"lastActiveAt,omitempty"`
	// Devices are those that are connected, or whose connection broke a moment ago.
	Devices []api.PresenceDevice `json:"devices"`
	// Timeline is what happened to them, latest first.
	Timeline []api.PresenceTransition `json:"timeline"`
}

const (
	statusOffline   = "offline"
	statusInvisible = "invisible"
)

// look fetches the presence of a user, who may be deactivated.
func look(cmd *cobra.Command, c *client.Client, uid string) (userPresence, error) {
	user, err := c.Users.GetWithDeactivated(cmd.Context(), uid)
	if err != nil {
		return userPresence{}, err
	}
	seen := userPresence{UID: user.UID, State: stateOf(user), Status: statusOffline, LastActiveAt: user.LastActiveAt}
	if user.DeactivatedAt == 0 {
		now, err := c.Presence.Devices(cmd.Context(), uid)
		if err != nil {
			return userPresence{}, err
		}
		seen.Devices, seen.Status, seen.StatusText = now.Devices, now.Status, now.StatusText
		seen.LastActiveAt = max(seen.LastActiveAt, now.LastActiveAt)
	}
	for tries := 0; ; tries++ {
		if seen.Timeline, err = c.Presence.Timeline(cmd.Context(), uid); err != nil {
			return userPresence{}, err
		}
		if !seen.timelineIsBehind() || tries > 0 {
			break
		}
		select { // it is written once a second, and there is nothing to hear of that
		case <-time.After(timelineDelay):
		case <-cmd.Context().Done():
			return userPresence{}, cmd.Context().Err()
		}
	}
	if user.DeactivatedAt != 0 {
		seen.Why = strings.TrimPrefix(deactivation(user), user.UID+" is deactivated ")
		return seen, nil
	}
	seen.State, seen.Why = stateActive, seen.why()
	switch seen.Status {
	case statusOffline:
	case statusInvisible:
		seen.State = stateInvisible
	default:
		seen.State = stateOnline
	}
	return seen, nil
}

// timelineDelay is how far the timeline may be behind, and a little more.
const timelineDelay = 1500 * time.Millisecond

// timelineIsBehind reports whether the user has gone a moment ago, of which the timeline does not know yet.
func (p userPresence) timelineIsBehind() bool {
	told := len(p.Timeline) > 0 && p.Timeline[0].Status == statusOffline
	return len(p.Devices) == 0 && !told && time.Since(time.Unix(p.LastActiveAt, 0)) < 2*timelineDelay
}

// why says in words why a user who is active is online or not.
func (p userPresence) why() string {
	connected, since, until := 0, int64(0), int64(0)
	for _, device := range p.Devices {
		if device.AwayUntil != 0 {
			until = max(until, device.AwayUntil)
			continue
		}
		connected++
		if since == 0 || device.ConnectedAt < since {
			since = device.ConnectedAt
		}
	}
	switch {
	case connected > 0:
		return fmt.Sprintf("connected since %s UTC%s", timeOf(since, ""), p.hidden())
	case until != 0:
		return fmt.Sprintf("the connection broke, and it has until %s UTC to come back%s", timeOf(until, ""), p.hidden())
	case len(p.Timeline) > 0 && p.Timeline[0].Status == statusOffline:
		last := p.Timeline[0]
		return fmt.Sprintf("%s at %s UTC", last.Cause, timeOf(last.At/1000, ""))
	case p.LastActiveAt != 0:
		return fmt.Sprintf(
			"it was last active at %s UTC, and why it went is not known any more", timeOf(p.LastActiveAt, ""),
		)
	default:
		return "it was never connected"
	}
}

// hidden says, of a user who is invisible, which devices make it so, and that they hide the others too.
func (p userPresence) hidden() string {
	if p.Status != statusInvisible {
		return ""
	}
	var hiding []string
	for _, device := range p.Devices {
		if device.Status == statusInvisible {
			hiding = append(hiding, device.DeviceID)
		}
	}
	if len(hiding) == len(p.Devices) {
		return "; others see it offline"
	}
	return fmt.Sprintf(
		"; others see it offline, because %s, invisible, hides all its devices", strings.Join(hiding, " and "),
	)
}

func newPresence() *cobra.Command {
	r := &remote{}
	var events int
	cmd := &cobra.Command{
		Use: "presence UID", Short: "Tell whether a user is online, and why",
		Long: "Tells whether a user is online and why, with its devices, and what happened to them, latest first. Of each\n" +
			"device the last 100 events are known, for 30 days. Times are in UTC.",
		Example: "  rollcall presence ada\n  rollcall presence ada --events 10 --json", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.connect()
			if err != nil {
				return err
			}
			seen, err := look(cmd, c, args[0])
			if err != nil {
				return r.explain(err)
			}
			seen.Timeline = seen.Timeline[:min(max(events, 0), len(seen.Timeline))]
			if r.json {
				return printJSON(cmd, seen)
			}
			return seen.print(cmd)
		},
	}
	r.register(cmd.Flags())
	cmd.Flags().IntVar(&events, "events", 20, "how many events to show")
	return cmd
}

func (p userPresence) print(cmd *cobra.Command) error {
	status := ""
	if p.Status != "available" && p.Status != statusOffline && p.Status != statusInvisible {
		status = ", " + p.Status
	}
	if p.StatusText != "" {
		status += fmt.Sprintf(" (%q)", p.StatusText)
	}
	state := p.State
	if state == stateActive {
		state = statusOffline
	}
	printf(cmd, "%s is %s%s: %s\n", p.UID, state, status, p.Why)
	if len(p.Devices) > 0 {
		rows := [][]string{{"DEVICE", "STATUS", "CONNECTED", "BACK UNTIL", "TOKEN"}}
		for _, device := range p.Devices {
			rows = append(rows, []string{
				device.DeviceID, device.Status, timeOf(device.ConnectedAt, "no"), timeOf(device.AwayUntil, "-"),
				device.AuthTokenID,
			})
		}
		printf(cmd, "\n")
		if err := printTable(cmd, rows); err != nil {
			return err
		}
	}
	if len(p.Timeline) == 0 {
		return nil
	}
	rows := [][]string{{"TIME", "DEVICE", "STATUS", "CAUSE"}}
	for _, event := range p.Timeline {
		at := time.UnixMilli(event.At).UTC().Format("2006-01-02 15:04:05.000")
		rows = append(rows, []string{at, event.DeviceID, event.Status, event.Cause})
	}
	printf(cmd, "\n")
	return printTable(cmd, rows)
}

func newExplain() *cobra.Command {
	r := &remote{}
	cmd := remoteCommand(r, &cobra.Command{
		Use: "explain VIEWER SUBJECT", Short: "Tell what a user sees of another, and the rule that decides",
		Long: "Tells what one user may see of another and do about it: whether it finds it in lists and searches, may\n" +
			"look it up, sees whether it is online, and may write to it; and the rule that decides. When the other has made\n" +
			"itself invisible, that is said too.",
		Example: "  rollcall explain ada bob", Args: cobra.ExactArgs(2),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		e, err := c.Visibility.Explain(cmd.Context(), args[0], args[1])
		if err != nil {
			return nil, nil, err
		}
		told := explanation{Explanation: e}
		presence, rule := yesNo(e.Presence), e.Rule
		if e.Presence && e.Viewer != e.Subject {
			now, err := c.Presence.Devices(cmd.Context(), e.Subject)
			if err != nil {
				return nil, nil, err
			}
			if told.SubjectInvisible = now.Status == statusInvisible; told.SubjectInvisible {
				presence, rule = "offline", fmt.Sprintf("%s; %s is invisible now", e.Rule, e.Subject)
			}
		}
		return told, [][]string{
			{"VIEWER", "SUBJECT", "LISTED", "LOOKED UP", "PRESENCE", "CONTACT", "RULE"},
			{e.Viewer, e.Subject, yesNo(e.Listed), yesNo(e.Detailed), presence, yesNo(e.Contact), rule},
		}, nil
	})
	r.register(cmd.Flags())
	return cmd
}

// explanation is what `rollcall explain --json` prints.
type explanation struct {
	api.Explanation
	// SubjectInvisible says that the viewer may see the presence of the subject, who hides it from everybody now.
	SubjectInvisible bool `json:"subjectInvisible,omitempty"`
}

func yesNo(value bool) string {
	if value {
		return "yes"
	}
	return "no"
}

func newBlocks() *cobra.Command {
	r := &remote{}
	var direction string
	cmd := remoteCommand(r, &cobra.Command{
		Use: "blocks UID", Short: "List whom a user has blocked, and who has blocked it",
		Example: "  rollcall blocks ada\n  rollcall blocks ada --direction hasBlockedMe", Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		rows := [][]string{{"WHO", "HAS BLOCKED", "SINCE"}}
		users, uid := []api.User{}, strings.ToLower(args[0])
		for user, err := range c.Blocks.All(cmd.Context(), uid, direction) {
			if err != nil {
				return nil, nil, err
			}
			users = append(users, user)
			if user.BlockedByMe && direction != "hasBlockedMe" {
				rows = append(rows, []string{uid, user.UID, timeOf(user.BlockedByMeAt, "")})
			}
			if user.HasBlockedMe && direction != "blockedByMe" {
				rows = append(rows, []string{user.UID, uid, timeOf(user.HasBlockedMeAt, "")})
			}
		}
		return users, rows, nil
	})
	r.register(cmd.Flags())
	cmd.Flags().StringVar(&direction, "direction", "both", "blockedByMe, hasBlockedMe or both")
	return cmd
}

func newChanges() *cobra.Command {
	r := &remote{}
	var uid string
	var since int64
	var limit int
	cmd := remoteCommand(r, &cobra.Command{
		Use: "changes", Short: "Show the change log: who did what, and when",
		Long: "Shows the latest changes of the app, or of what is about one user, who may be gone, in their order: who\n" +
			"did what to whom, and which fields, never what is in them. Times are in UTC.",
		Example: "  rollcall changes --uid ada\n  rollcall changes --since 1200 --limit 1000 --json", Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, c *client.Client, _ []string) (any, [][]string, error) {
		if limit < 1 {
			return nil, nil, usageError{fmt.Errorf("a --limit of %d shows nothing", limit)}
		}
		changes, all, err := latestChanges(cmd, c, uid, since, limit)
		if err != nil {
			return nil, nil, err
		}
		if len(changes) == 0 && uid != "" {
			return changes, nil, noChangesAbout(cmd, uid, since)
		}
		names, err := keyNames(cmd, c, changes)
		if err != nil {
			return nil, nil, err
		}
		if all > len(changes) {
			fmt.Fprintf(cmd.ErrOrStderr(), "the last %d of %d; --limit shows more\n", len(changes), all)
		}
		rows := [][]string{{"REVISION", "TIME", "WHO", "WHAT", "SUBJECT", "OBJECT", "FIELDS"}}
		for _, change := range changes {
			rows = append(rows, []string{
				fmt.Sprint(change.Revision), timeOf(change.At, ""), names.who(change.Actor), change.Kind, change.Subject,
				change.Object, strings.Join(change.Fields, ","),
			})
		}
		return changes, rows, nil
	})
	r.register(cmd.Flags())
	cmd.Flags().StringVar(&uid, "uid", "", "only changes about this user")
	cmd.Flags().Int64Var(&since, "since", 0, "only changes with a higher revision")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many of the latest to show")
	return cmd
}

// noChangesAbout says why there is no change about a user. It is an error for one who was never there.
func noChangesAbout(cmd *cobra.Command, uid string, since int64) error {
	if since > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "nothing about %s has changed after revision %d\n", uid, since)
		return nil
	}
	return outcomeError{fmt.Errorf("nothing is known of %s: no user has or had this uid", uid), exitFailed}
}

// namesOfKeys are the names of API keys by their ids.
type namesOfKeys map[string]string

// keyNames returns the names of the keys that have made changes, as far as they are accepted still.
func keyNames(cmd *cobra.Command, c *client.Client, changes []api.Change) (namesOfKeys, error) {
	isKey := func(change api.Change) bool { return strings.HasPrefix(change.Actor, actorIsKey) }
	if !slices.ContainsFunc(changes, isKey) {
		return nil, nil
	}
	keys, err := c.APIKeys.List(cmd.Context(), client.APIKeyListOptions{PageOptions: client.PageOptions{PerPage: 1000}})
	names := namesOfKeys{}
	for _, key := range keys.Items {
		names[key.ID] = key.Name
	}
	return names, err
}

// actorIsKey is what the actor of a change begins with that was made with an API key.
const actorIsKey = "key:"

// who returns an actor with the name of its key.
func (n namesOfKeys) who(actor string) string {
	id, isKey := strings.CutPrefix(actor, actorIsKey)
	if name, known := n[id]; isKey && known {
		return fmt.Sprintf("%s (%s)", actor, name)
	}
	return actor
}

// latestChanges returns the last of the changes above a revision, and how many there are.
func latestChanges(
	cmd *cobra.Command, c *client.Client, uid string, since int64, limit int,
) (latest []api.Change, all int, err error) {
	const atOnce = 1000
	latest = []api.Change{}
	read := c.Changes.List
	if uid != "" {
		read = func(ctx context.Context, since int64, limit int) ([]api.Change, int64, error) {
			return c.Changes.ListAbout(ctx, uid, since, limit)
		}
	} else {
		_, last, err := c.Changes.List(cmd.Context(), since, 1)
		if err != nil {
			return nil, 0, err
		}
		if skipped := last - since - int64(limit); skipped > 0 { // revisions have no gaps
			since, all = since+skipped, int(skipped)
		}
	}
	for {
		part, _, err := read(cmd.Context(), since, atOnce)
		if err != nil {
			return nil, 0, err
		}
		all += len(part)
		latest = append(latest, part...)
		latest = latest[max(0, len(latest)-limit):]
		if len(part) < atOnce {
			return latest, all, nil
		}
		since = part[len(part)-1].Revision
	}
}
