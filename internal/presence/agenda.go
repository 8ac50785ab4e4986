package presence

import (
	"container/heap"
	"context"
	"time"
)

// agenda is when to look at whom again: each person is in it at most once, the next to look at first.
type agenda []*person

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].wakeAt.Before(a[j].wakeAt) }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].at, a[j].at = i+1, j+1
}

func (a *agenda) Push(x any) {
	p := x.(*person) //nolint:forcetypeassert // nothing else is pushed
	*a = append(*a, p)
	p.at = len(*a)
}

func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = nil
	*a = (*a)[:len(*a)-1]
	last.at = 0
	return last
}

// schedule makes sure that somebody looks at a person at a time, and not before. Zero is never. It needs the lock.
func (r *roster) schedule(p *person, at time.Time) {
	if at.IsZero() {
		r.unschedule(p)
		return
	}
	if p.at > 0 && at.Equal(p.wakeAt) {
		return
	}
	p.wakeAt = at
	if p.at > 0 {
		heap.Fix(&r.due, p.at-1)
	} else {
		heap.Push(&r.due, p)
	}
	if r.due[0] == p {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// unschedule takes a person out of the agenda. It needs the lock.
func (r *roster) unschedule(p *person) {
	if p.at > 0 {
		heap.Remove(&r.due, p.at-1)
	}
	p.wakeAt = time.Time{}
}

// keepTime looks at people when it is time to, until ctx ends.
func (r *roster) keepTime(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		timer.Reset(r.reconcileDue())
		select {
		case <-timer.C:
		case <-r.wake:
		case <-check.C:
			r.check(r.presence.now())
		case <-ctx.Done():
			return
		}
	}
}

// reconcileDue looks at everybody whose time has come, and returns how long nobody's will.
func (r *roster) reconcileDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.presence.now()
	for len(r.due) > 0 && !r.due[0].wakeAt.After(now) {
		p := r.due[0]
		r.unschedule(p)
		r.reconcile(p, now)
	}
	if len(r.due) == 0 {
		return time.Hour
	}
	return r.due[0].wakeAt.Sub(now)
}
