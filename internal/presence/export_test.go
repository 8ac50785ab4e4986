package presence

import "context"

// InformedEntries counts what is remembered of those who were told of somebody on their own.
func (p *Presence) InformedEntries() (count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rosters {
		r.mu.Lock()
		for _, person := range r.people {
			count += len(person.informed)
		}
		r.mu.Unlock()
	}
	return count
}

// OpenSlowly is Open with something that happens after the user was read, for the first time, and before the session is
// live.
func (p *Presence) OpenSlowly(ctx context.Context, hello Hello, listener Listener, between func()) (*Session, error) {
	r, err := p.roster(ctx, hello.App)
	if err != nil {
		return nil, err
	}
	s := &Session{roster: r, listener: listener, uid: hello.UID, device: hello.Device, subscription: hello.Subscription}
	if err := r.admit(s); err != nil {
		return nil, err
	}
	for {
		policy, err := p.dir.Policy(ctx, hello.App)
		if err != nil {
			return nil, err
		}
		attendee, err := p.dir.Attend(ctx, policy, hello.UID, hello.Token, true)
		if err != nil {
			return nil, err
		}
		between()
		between = func() {}
		if joined, err := r.join(s, hello, attendee, true); joined || err != nil {
			return s, err
		}
	}
}
