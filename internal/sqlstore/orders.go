package sqlstore

import (
	"strings"

	"github.com/rollcall/rollcall/internal/directory"
)

// arm is a part of the users that has an index for an order of its own. Lists in the order merge the arms.
//
// A user who was never changed and never online has only one time, when it was made: one index serves it in all orders
// by time, and making it writes one place instead of three. The others have an index for each order.
type arm struct {
	// condition tells the users of the arm, as their indexes have it.
	condition string
	// changedAt is when such a user was last changed.
	changedAt string
	// times are the columns of the order, which run downward.
	times []string
}

const (
	isFresh  = ` AND updated_at = 0 AND last_active_at = 0`
	notFresh = ` AND (updated_at <> 0 OR last_active_at <> 0)`
	// changedAt is when a user was last changed, as the index users_last_changed has it.
	changedAt = `(CASE WHEN updated_at = 0 THEN created_at ELSE updated_at END)`
)

// everybody is the only arm of the orders that do not go by time, which have one index for all users.
var everybody = []arm{{changedAt: changedAt}}

// ordersOfTimes are the arms of the orders by time.
var ordersOfTimes = map[directory.Order][]arm{
	directory.NewestFirst:      {{isFresh, `created_at`, []string{`created_at`}}, {notFresh, changedAt, []string{`created_at`}}},
	directory.LastChangedFirst: {{isFresh, `created_at`, []string{`created_at`}}, {notFresh, changedAt, []string{changedAt}}},
	directory.LastActiveFirst:  {{isFresh, `created_at`, []string{`0`, `created_at`}}, {notFresh, changedAt, []string{`last_active_at`, `created_at`}}},
}

// timesOf returns the columns of an order, for all users, which run downward.
func timesOf(order directory.Order) []string {
	if arms := ordersOfTimes[order]; arms != nil {
		return arms[len(arms)-1].times
	}
	return nil
}

// start is where in an order a page begins: behind a position, or at it.
type start struct {
	at        *directory.Position
	inclusive bool
}

// stretch is a part of an order that one range of each arm's index holds, and that no arm need be sorted for.
type stretch struct {
	order    directory.Order
	backward bool
	// same are the first times, which are the same in all rows.
	same []int64
	// behind is where it begins: its next time, or its uid when all times are the same, lies behind this position's.
	behind start
	// active leaves those out who were never active.
	active bool
}

// stretchesOf returns what lies behind a start, nearest first. Times run downward and uids upward, so that no single range
// holds it: many users may have been created in the same second.
func stretchesOf(order directory.Order, begin start, backward bool, way way) []stretch {
	var stretches []stretch
	if begin.at != nil {
		for same := len(begin.at.Times); same > 0; same-- {
			stretches = append(stretches, stretch{order: order, backward: backward, same: begin.at.Times[:same], behind: begin})
		}
	}
	whole := stretch{order: order, backward: backward, behind: begin}
	if order != directory.LastActiveFirst || way == byFilter {
		return append(stretches, whole)
	}
	// Those who were never active stand at the end, in the order in which they were made.
	active, never := whole, stretch{order: order, backward: backward, same: []int64{0}}
	active.active = true
	switch {
	case begin.at == nil && backward:
		return append(stretches, never, active)
	case begin.at == nil || !backward && begin.at.Times[0] > 0:
		return append(stretches, active, never)
	case backward:
		return append(stretches, active)
	default:
		return stretches
	}
}

// arms returns the arms that hold users of the stretch.
func (r stretch) arms() []arm {
	arms := ordersOfTimes[r.order]
	switch {
	case arms == nil:
		return everybody
	case r.order == directory.LastActiveFirst && (len(r.same) == 0 || r.same[0] != 0):
		return arms[1:]
	default:
		return arms
	}
}

// add adds the conditions of the stretch.
func (r stretch) add(s *statement, arm arm) {
	for i, at := range r.same {
		s.add(` AND ` + arm.times[i] + ` = ` + s.arg(at))
	}
	if r.active {
		s.add(` AND last_active_at > 0`)
	}
	at := r.behind.at
	if at == nil {
		return
	}
	before, behind := ` < `, ` > `
	if r.backward {
		before, behind = ` > `, ` < `
	}
	if r.behind.inclusive {
		behind = strings.TrimRight(behind, " ") + `= `
	}
	switch {
	case len(r.same) < len(arm.times):
		s.add(` AND ` + arm.times[len(r.same)] + before + s.arg(at.Times[len(r.same)]))
	case r.order == directory.ByName:
		s.add(` AND (name_key, uid)` + behind + `(` + s.arg(at.Name) + `, ` + s.arg(string(at.UID)) + `)`)
	default:
		s.add(` AND uid` + behind + s.arg(string(at.UID)))
	}
}

// timeNames are what the times by which a stretch is ordered are called in its rows.
var timeNames = []string{`at`, `then_at`}

// stretchStatement returns a statement for columns of the users of a stretch, and behind them the times that are not the same
// in all rows, in order: in the form in which an index serves it, or when what is found is to be sorted, in one that no index
// serves. With a limit, it leaves out the offset of the query and ends after so many; zero means all.
func (t *tx) stretchStatement(query directory.UserQuery, stretch stretch, way way, columns string, limit int) (*statement, error) {
	s, err := t.userStatement(query, way)
	if err != nil {
		return nil, err
	}
	arms := stretch.arms()
	if way == byFilter {
		arms = []arm{{changedAt: changedAt, times: timesOf(query.Order)}}
	}
	names := timeNames[:len(arms[0].times)-len(stretch.same)]
	limitsArms := len(arms) > 1 && limit > 0 && t.limitsArms()
	for i, arm := range arms {
		if i > 0 {
			s.add(` UNION ALL `)
		}
		if limitsArms {
			s.add(`SELECT ` + strings.Join(append([]string{columns}, names...), `, `) + ` FROM (`)
		}
		s.add(`SELECT ` + columns)
		for i, name := range names {
			s.add(`, ` + arm.times[len(stretch.same)+i] + ` AS ` + name)
		}
		s.add(` FROM users WHERE `)
		addUserConditions(s, query, way, arm)
		stretch.add(s, arm)
		if limitsArms {
			addOrder(s, query, names, ``, ``)
			s.add(` LIMIT ` + s.arg(limit+query.Offset) + `) AS arm`)
		}
	}
	if way == byFilter {
		addOrder(s, query, arms[0].times[len(stretch.same):], ` + 0`, ` || ''`)
	} else {
		addOrder(s, query, names, ``, ``)
	}
	if limit > 0 {
		s.add(` LIMIT ` + s.arg(limit) + ` OFFSET ` + s.arg(query.Offset))
	}
	return s, nil
}

// addOrder adds an order by times, the name if it is the order's, and the uid. number and text are put behind numbers and texts.
func addOrder(s *statement, query directory.UserQuery, times []string, number, text string) {
	down, up := ` DESC`, ``
	if query.Backward {
		down, up = ``, ` DESC`
	}
	s.add(` ORDER BY `)
	for _, time := range times {
		s.add(time + number + down + `, `)
	}
	if query.Order == directory.ByName {
		s.add(`name_key` + text + up + `, `)
	}
	s.add(`uid` + text + up)
}
