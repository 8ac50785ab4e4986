package presence

import (
	"container/heap"
	"context"
	"time"
)

// agenda is when to look at whom again. Entries that an earlier look has made needless are skipped when they come up.
type agenda []appointment

type appointment struct {
	at     time.Time
	person *person
}

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(appointment)) } //nolint:forcetypeassert // nothing else is pushed
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = appointment{}
	*a = (*a)[:len(*a)-1]
	return last
}

// schedule makes sure that somebody looks at a person at a time. Zero is never. It needs the lock.
func (r *roster) schedule(p *person, at time.Time) {
	if at.IsZero() || !p.wakeAt.IsZero() && !at.Before(p.wakeAt) {
		return
	}
	p.wakeAt = at
	first := len(r.due) == 0 || at.Before(r.due[0].at)
	heap.Push(&r.due, appointment{at, p})
	if first {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// keepTime looks at people when it is time to, until ctx ends.
func (r *roster) keepTime(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		timer.Reset(r.lookAtDue())
		select {
		case <-timer.C:
		case <-r.wake:
		case <-check.C:
			r.check(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// lookAtDue looks at everybody whose time has come, and returns how long nobody's will.
func (r *roster) lookAtDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.due) > 0 && !r.due[0].at.After(now) {
		entry := heap.Pop(&r.due).(appointment) //nolint:forcetypeassert // nothing else is in it
		if r.people[entry.person.user.UID] == entry.person && entry.person.wakeAt.Equal(entry.at) {
			entry.person.wakeAt = time.Time{}
			r.look(entry.person, now)
		}
	}
	if len(r.due) == 0 {
		return time.Hour
	}
	return r.due[0].at.Sub(now)
}
