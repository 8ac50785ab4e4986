package sqlstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// MovePlace is where a database is: the URL of one in PostgreSQL, or the path of a SQLite file.
type MovePlace struct{ URL, Path string }

func (p MovePlace) String() string {
	if p.URL != "" {
		return "PostgreSQL at " + PlaceOfURL(p.URL)
	}
	return "SQLite in " + p.Path
}

// MoveProgress tells how far a move is.
type MoveProgress struct {
	// Round is 1 for the copy, and more for each comparison after it.
	Round int
	// Table is being read, of which Rows are done. Of is about how many there are.
	Table    string
	Rows, Of int64
	// RoundDone says that a round is over. Changed is how many rows it has written or deleted in the target.
	RoundDone bool
	Changed   int64
	// Fenced says that the source takes no writes from now on.
	Fenced bool
}

// MovedTable is what the source and the target hold of one app in one table.
type MovedTable struct {
	Table, App     string
	Source, Target TableSum
}

// Move copies a live database to another one. One algorithm does everything: read the rows of both sides in the order
// of their keys, and make the target like the source. The first round copies, later ones catch up, and the last, while
// the source takes no writes, proves that both are equal. So a move that was killed at any point goes on by being
// started again.
type Move struct {
	from, to MovePlace
	source   moveSource
	target   moveTarget
	tables   []movedTable
	mark     moveMark
	tell     func(MoveProgress)

	// GoesOn says that the target holds a part of this move, which began at Begun.
	GoesOn bool
	Begun  time.Time
	// Sealed says that the source takes no writes any more: an earlier run has switched, and was killed before the target
	// was ready. Only Switch is left to do.
	Sealed bool
	// Refused is for how long writes were refused when Switch returned.
	Refused time.Duration

	round int
	// counts are how many rows the tables had in the first round.
	counts map[string]int64
	// heads are where the source was in the last round, and agreed what both sides held then, where they held the same.
	heads  map[string]head
	agreed map[tableOfApp]MovedTable
	// differed are those in which the target had to be corrected: whether it is right now is to be seen.
	differed map[tableOfApp]struct{}
}

type tableOfApp struct{ table, app string }

// moveMark is left in both databases, so that each side knows of the move.
type moveMark struct {
	ID string `json:"id"`
	// Place is the other side's.
	Place string `json:"place"`
	At    int64  `json:"at"`
}

// moveSide is a database that a move reads.
type moveSide interface {
	// table describes a table as the catalog has it.
	table(ctx context.Context, name string) (movedTable, error)
	// snapshot calls fn with a reader that sees one state of the database.
	snapshot(ctx context.Context, fn func(movedReader) error) error
	close(ctx context.Context) error
}

// moveSource is the database that is moved.
type moveSource interface {
	moveSide
	// movedTo returns the mark of a move that has taken the data away, nil when there was none.
	movedTo(ctx context.Context) (*moveMark, error)
	// fence refuses all writes until the returned fence is lifted, or this process ends. What is being written is waited
	// for.
	fence(ctx context.Context) (moveFence, error)
}

// moveFence keeps writes from a source.
type moveFence interface {
	// seal makes it last: nothing is written any more, also when this process has ended. It fails when the fence has not
	// stood all the time.
	seal(ctx context.Context, mark moveMark) error
	// lift lets writes in again, unless it was sealed.
	lift(ctx context.Context) error
}

// moveTarget is the database that the data goes to. Nobody can use it before it is published.
type moveTarget interface {
	moveSide
	// begin makes the tables and leaves the mark, or returns the one that is there. It refuses data that is not a move's.
	begin(ctx context.Context, mark moveMark) (moveMark, error)
	// apply deletes the rows that have the keys of the first ones, and then inserts the others, in one transaction.
	apply(ctx context.Context, table movedTable, deletes, inserts []movedRow) error
	// settle does what a database is better for after much was written to it.
	settle(ctx context.Context) error
	// publish makes it durable and lets servers use it.
	publish(ctx context.Context) error
}

// MovedAwayError means that the data of a database was moved to another one.
type MovedAwayError struct {
	To string
	At time.Time
}

func (e *MovedAwayError) Error() string {
	return fmt.Sprintf("the data of this database was moved to %s on %s, and is served from there: what is here is old",
		e.To, e.At.UTC().Format(time.DateTime))
}

// MoveUnfinishedError means that a move into a database is not done.
type MoveUnfinishedError struct{ From string }

func (e *MoveUnfinishedError) Error() string {
	return fmt.Sprintf("a move from %s into this database is not done: run `rollcall move` again, or use another database",
		e.From)
}

var errTargetUsed = errors.New("the target has data that is not of this move; give one that is empty")

// MovePlan is what a move would do.
type MovePlan struct {
	Rows   map[string]int64 // by table
	Apps   int64
	GoesOn bool
}

// OpenMove begins a move, or goes on with one that was begun. tell is called now and then. The caller closes it.
func OpenMove(ctx context.Context, from, to MovePlace, tell func(MoveProgress)) (_ *Move, err error) {
	m := &Move{
		from: from, to: to, tell: tell,
		counts: map[string]int64{}, heads: map[string]head{},
		agreed: map[tableOfApp]MovedTable{}, differed: map[tableOfApp]struct{}{},
	}
	defer func() { //nolint:contextcheck // it gives up also when ctx has ended
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	sealed, err := m.openSource(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.openTarget(ctx, sealed != nil); err != nil {
		if _, used := errors.AsType[*movePublishedError](err); used && sealed != nil {
			err = errMoveDone
		}
		return nil, err
	}
	wanted := moveMark{ID: rand.Text(), Place: from.String(), At: time.Now().Unix()}
	if sealed != nil {
		wanted.ID, m.Sealed = sealed.ID, true
	}
	if m.mark, err = m.target.begin(ctx, wanted); err != nil {
		return nil, err
	}
	m.GoesOn, m.Begun = m.mark.At != wanted.At || m.mark.ID != wanted.ID || m.Sealed, time.Unix(m.mark.At, 0)
	if m.mark.Place != from.String() {
		return nil, fmt.Errorf("the target holds a part of a move from %s: %w", m.mark.Place, errTargetUsed)
	}
	return m, m.describeTables(ctx)
}

// errMoveDone is returned for a move that has nothing left to do.
var errMoveDone = errors.New("the move is done: the source was switched, and the target is ready")

// IsMoveDone reports whether a move could not be opened because it is done.
func IsMoveDone(err error) bool { return errors.Is(err, errMoveDone) }

// movePublishedError says that a target is in use, or could be.
type movePublishedError struct{ error }

// openSource returns the mark of an earlier run that has switched the source, nil when there was none.
func (m *Move) openSource(ctx context.Context) (sealed *moveMark, err error) {
	if m.from.URL != "" {
		source, err := openPostgresSource(ctx, m.from.URL)
		if err != nil {
			return nil, err
		}
		m.source = source
	} else {
		source, err := openSQLiteSource(m.from.Path)
		if err != nil {
			return nil, err
		}
		m.source = source
	}
	if sealed, err = m.source.movedTo(ctx); err != nil {
		return nil, err
	}
	if sealed != nil && sealed.Place != m.to.String() {
		return nil, &MovedAwayError{To: sealed.Place, At: time.Unix(sealed.At, 0)}
	}
	return sealed, nil
}

func (m *Move) openTarget(ctx context.Context, sealed bool) error {
	if m.to.URL != "" {
		target, err := openPostgresTarget(ctx, m.to.URL)
		if err != nil {
			return err
		}
		m.target = target
		return nil
	}
	target, err := openSQLiteTarget(m.to.Path, sealed)
	if err != nil {
		return err
	}
	m.target = target
	return nil
}

// describeTables demands that both sides have the same tables.
func (m *Move) describeTables(ctx context.Context) error {
	for _, name := range movedTables {
		here, err := m.source.table(ctx, name)
		if err != nil {
			return err
		}
		there, err := m.target.table(ctx, name)
		if err != nil {
			return err
		}
		if !here.equal(there) {
			return fmt.Errorf("table %s is not the same on both sides", name)
		}
		m.tables = append(m.tables, here)
	}
	return nil
}

// PlanMove checks what OpenMove does and counts what there is to copy. It changes nothing.
func PlanMove(ctx context.Context, from, to MovePlace) (plan MovePlan, err error) {
	m := &Move{from: from, to: to}
	defer func() { err = errors.Join(err, m.Close()) }() //nolint:contextcheck // it gives up also when ctx has ended
	sealed, err := m.openSource(ctx)
	if err != nil {
		return plan, err
	}
	if to.URL != "" {
		plan.GoesOn, err = inspectPostgresTarget(ctx, to.URL, from.String())
	} else {
		plan.GoesOn, err = inspectSQLiteTarget(to.Path, from.String())
	}
	if err != nil {
		return plan, err
	}
	plan.GoesOn = plan.GoesOn || sealed != nil
	plan.Rows = map[string]int64{}
	err = m.source.snapshot(ctx, func(r movedReader) error {
		for _, name := range movedTables {
			if plan.Rows[name], err = countRows(r, name); err != nil {
				return err
			}
		}
		return nil
	})
	plan.Apps = plan.Rows["apps"]
	return plan, err
}

func countRows(r movedReader, table string) (rows int64, err error) {
	err = r.query(`SELECT count(*) FROM `+table, nil, func(r row) error {
		rows = r.integer(0)
		return nil
	})
	return rows, err
}

// Close gives up what a move holds. What was copied is kept.
func (m *Move) Close() error {
	var failures []error
	closing, cancel := context.WithTimeout(context.Background(), leaseAnswers)
	defer cancel()
	if m.target != nil {
		failures = append(failures, m.target.close(closing))
	}
	if m.source != nil {
		failures = append(failures, m.source.close(closing))
	}
	return errors.Join(failures...)
}

const (
	// fewRows are so few that another round before the switch would make it no shorter.
	fewRows = 1000
	// mostRounds bounds how often the move tries to catch up with a source that is written to faster than it copies.
	mostRounds = 10
	// appsApart is how many apps are read one by one. More are read together with all others.
	appsApart = 100
)

// CatchUp copies what the target does not have yet, round by round, until another round would bring it no nearer. The
// source may be written to all the while.
func (m *Move) CatchUp(ctx context.Context) error {
	for before, rounds := int64(0), 0; rounds < mostRounds; rounds++ {
		changed, caughtUp, err := m.compare(ctx)
		if err != nil || caughtUp {
			return err
		}
		if rounds > 0 && (changed <= fewRows || changed > before/2) {
			return nil
		}
		before = changed
	}
	return nil
}

// Switch ends the move: the source takes no writes any more, what it was given last is copied, every table is compared,
// beside is called to move what is not in the database, and the target is made ready. When it fails, the source is what
// it was, unless Sealed says otherwise.
func (m *Move) Switch(ctx context.Context, beside func() error) (err error) {
	var fence moveFence
	if err := m.target.settle(ctx); err != nil {
		return err
	}
	if !m.Sealed {
		if fence, err = m.source.fence(ctx); err != nil {
			return fmt.Errorf("keep writes from the source: %w", err)
		}
		m.tell(MoveProgress{Fenced: true})
		fenced := time.Now()
		defer func() {
			m.Refused = time.Since(fenced)
			lifting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*leaseAnswers)
			defer cancel()
			err = errors.Join(err, fence.lift(lifting))
		}()
	}
	for rounds := 0; ; rounds++ {
		_, caughtUp, err := m.compare(ctx)
		if err != nil {
			return err
		}
		if caughtUp {
			break
		}
		if rounds == mostRounds {
			return errors.New("source and target are still not equal: somebody writes to one of them")
		}
	}
	if err := beside(); err != nil {
		return err
	}
	if !m.Sealed {
		if err := m.seal(context.WithoutCancel(ctx), fence); err != nil {
			return err
		}
	}
	return m.target.publish(context.WithoutCancel(ctx)) // there is no way back from here
}

// sealWithin bounds how long it may take to seal the source.
const sealWithin = 30 * time.Second

func (m *Move) seal(ctx context.Context, fence moveFence) error {
	ctx, cancel := context.WithTimeout(ctx, sealWithin)
	defer cancel()
	err := fence.seal(ctx, moveMark{ID: m.mark.ID, Place: m.to.String(), At: time.Now().Unix()})
	if err == nil {
		m.Sealed = true
		return nil
	}
	mark, errMark := m.source.movedTo(ctx) // it may have happened all the same
	m.Sealed = mark != nil
	return errors.Join(err, errMark)
}

// Sums returns what both sides hold, by table and app, as it was last compared and found equal.
func (m *Move) Sums() []MovedTable {
	var sums []MovedTable
	for _, table := range m.tables {
		var apps []string
		for key := range m.agreed {
			if key.table == table.name {
				apps = append(apps, key.app)
			}
		}
		slices.Sort(apps)
		for _, app := range apps {
			sums = append(sums, m.agreed[tableOfApp{table.name, app}])
		}
	}
	return sums
}

// compare makes the target like one state of the source, where that may have changed since the last round. It returns
// how many rows of the target it has changed, and whether there was nothing to look at.
func (m *Move) compare(ctx context.Context) (changed int64, caughtUp bool, err error) {
	err = m.source.snapshot(ctx, func(source movedReader) error {
		heads, err := readHeads(source)
		if err != nil {
			return err
		}
		todo := m.todo(heads)
		if caughtUp = len(todo) == 0; caughtUp {
			return nil
		}
		m.round++
		for _, part := range todo {
			differences, err := m.compareTable(ctx, source, part.table, part.app)
			if err != nil {
				return fmt.Errorf("table %s: %w", part.table.name, err)
			}
			changed += differences
		}
		m.heads = heads
		return nil
	})
	if err == nil && !caughtUp {
		m.tell(MoveProgress{Round: m.round, RoundDone: true, Changed: changed})
	}
	return changed, caughtUp, err
}

// readHeads reads where the logs of all apps are. Every write raises the version of its app.
func readHeads(r movedReader) (map[string]head, error) {
	heads := map[string]head{}
	return heads, r.query(`SELECT app, revision, version FROM revisions`, nil, func(r row) error {
		heads[r.text(0)] = head{r.integer(1), r.integer(2)}
		return nil
	})
}

// part is a table of an app, or of all apps.
type movePart struct {
	table movedTable
	app   string
}

// todo returns what is to be compared: everything at first, and then what has changed or was corrected since.
func (m *Move) todo(heads map[string]head) (parts []movePart) {
	var moved []string
	for app, at := range heads {
		if before, known := m.heads[app]; !known || before != at {
			moved = append(moved, app)
		}
	}
	for app := range m.heads {
		if _, there := heads[app]; !there {
			moved = append(moved, app)
		}
	}
	if m.round == 0 || len(moved) > appsApart {
		for _, table := range m.tables {
			parts = append(parts, movePart{table: table})
		}
		return parts
	}
	for _, app := range moved {
		for _, table := range m.tables {
			m.differed[tableOfApp{table.name, app}] = struct{}{}
		}
	}
	for _, table := range m.tables {
		var apps []string
		for key := range m.differed {
			if key.table == table.name {
				apps = append(apps, key.app)
			}
		}
		if len(apps) > appsApart {
			apps = []string{""}
		}
		slices.Sort(apps)
		for _, app := range apps {
			parts = append(parts, movePart{table, app})
		}
	}
	return parts
}

// tellRows is how many rows are read between two calls of tell.
const tellRows = 10_000

// compareTable makes the rows of the target like those of the source, and notes where they were so already. An empty
// app stands for all.
func (m *Move) compareTable(ctx context.Context, source movedReader, table movedTable, app string) (int64, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	if m.round == 1 {
		count, err := countRows(source, table.name)
		if err != nil {
			return 0, err
		}
		m.counts[table.name] = count
	}
	progress := MoveProgress{Round: m.round, Table: table.name, Of: m.counts[table.name]}
	question, args := table.rows(app)
	here := stream(reading, table, func(each func(row) error) error { return source.query(question, args, each) })
	there := stream(reading, table, func(each func(row) error) error {
		return m.target.snapshot(reading, func(r movedReader) error { return r.query(question, args, each) })
	})
	defer there.drain()
	defer here.drain()
	defer stop()
	c := &comparison{move: m, table: table, changed: map[string]int64{}}
	sums, targetSums := newTally(), newTally()
	mine, err := here.next()
	if err != nil {
		return 0, err
	}
	theirs, err := there.next()
	if err != nil {
		return 0, err
	}
	for mine != nil || theirs != nil {
		order := 0
		switch {
		case theirs == nil:
			order = -1
		case mine == nil:
			order = 1
		case !bytes.Equal(mine, theirs):
			order = table.compareKeys(mine, theirs)
		}
		if err := c.correct(ctx, mine, theirs, order); err != nil {
			return 0, err
		}
		if order <= 0 {
			sums.add(mine)
			if progress.Rows++; progress.Rows%tellRows == 0 {
				m.tell(progress)
			}
			if mine, err = here.next(); err != nil {
				return 0, err
			}
		}
		if order >= 0 {
			targetSums.add(theirs)
			if theirs, err = there.next(); err != nil {
				return 0, err
			}
		}
	}
	if err := c.flush(ctx); err != nil {
		return 0, err
	}
	m.tell(progress)
	return c.total, m.note(table.name, app, sums.finish(), targetSums.finish(), c.changed)
}

// note keeps what a comparison of a table has found.
func (m *Move) note(table, app string, source, target map[string]TableSum, changed map[string]int64) error {
	isMeant := func(key tableOfApp) bool { return key.table == table && (app == "" || key.app == app) }
	maps.DeleteFunc(m.agreed, func(key tableOfApp, _ MovedTable) bool { return isMeant(key) })
	maps.DeleteFunc(m.differed, func(key tableOfApp, _ struct{}) bool { return isMeant(key) })
	for app := range changed {
		m.differed[tableOfApp{table, app}] = struct{}{}
	}
	for app, sum := range source {
		if changed[app] > 0 {
			continue
		}
		if target[app] != sum {
			return fmt.Errorf("the rows of app %s are the same, and their checksums are not", app)
		}
		m.agreed[tableOfApp{table, app}] = MovedTable{Table: table, App: app, Source: sum, Target: target[app]}
	}
	return nil
}

// comparison gathers what is to be done to a table of the target.
type comparison struct {
	move             *Move
	table            movedTable
	deletes, inserts []movedRow
	bytes            int
	// changed counts the rows by app, and total all.
	changed map[string]int64
	total   int64
}

const (
	applyRows  = 5000
	applyBytes = 4 << 20
)

// correct takes two rows, of which the one that comes first in the order counts, or both when they have the same key.
func (c *comparison) correct(ctx context.Context, mine, theirs movedRow, order int) error {
	switch {
	case order < 0:
		c.inserts = append(c.inserts, mine)
	case order > 0:
		c.deletes = append(c.deletes, theirs)
		mine = theirs
	case bytes.Equal(mine, theirs):
		return nil
	default:
		c.deletes, c.inserts = append(c.deletes, theirs), append(c.inserts, mine)
	}
	c.changed[string(mine.app())]++
	c.total++
	c.bytes += len(mine)
	if len(c.deletes)+len(c.inserts) < applyRows && c.bytes < applyBytes {
		return nil
	}
	return c.flush(ctx)
}

func (c *comparison) flush(ctx context.Context) error {
	if len(c.deletes)+len(c.inserts) == 0 {
		return nil
	}
	err := c.move.target.apply(ctx, c.table, c.deletes, c.inserts)
	c.deletes, c.inserts, c.bytes = nil, nil, 0
	return err
}
