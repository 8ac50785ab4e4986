package storetest

import "sync"

// Bus connects servers within a test. One that is cut carries nothing.
type Bus struct {
	exchange *exchange
	handles  map[string]func([]byte) // guarded by the exchange's mu
}

type exchange struct {
	mu    sync.Mutex
	cut   bool // guarded by mu
	buses []*Bus
}

// NewBuses returns a bus for each of so many servers.
func NewBuses(servers int) []*Bus {
	x := &exchange{}
	for range servers {
		x.buses = append(x.buses, &Bus{exchange: x, handles: map[string]func([]byte){}})
	}
	return x.buses
}

// Cut makes the buses of all servers carry nothing from now on.
func (b *Bus) Cut() {
	b.exchange.mu.Lock()
	defer b.exchange.mu.Unlock()
	b.exchange.cut = true
}

// Publish hands a message to the other servers.
func (b *Bus) Publish(subject string, message []byte) {
	b.exchange.mu.Lock()
	defer b.exchange.mu.Unlock()
	for _, other := range b.exchange.buses {
		if handle := other.handles[subject]; handle != nil && other != b && !b.exchange.cut {
			handle(message)
		}
	}
}

// Subscribe has the messages about a subject handled, until the returned function is called.
func (b *Bus) Subscribe(subject string, handle func([]byte)) (unsubscribe func()) {
	b.exchange.mu.Lock()
	defer b.exchange.mu.Unlock()
	b.handles[subject] = handle
	return func() {
		b.exchange.mu.Lock()
		defer b.exchange.mu.Unlock()
		delete(b.handles, subject)
	}
}
