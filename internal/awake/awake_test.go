package awake

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestClockRunsWithTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := running(t)
		time.Sleep(time.Hour)
		if got := clock.Now(); got != time.Hour {
			t.Errorf("after an hour it says %v", got)
		}
	})
}

// TestClockLeavesOutPauses stops the beat, as a process that is stopped has none, and goes on.
func TestClockLeavesOutPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := NewClock()
		stop := keepGoing(t, clock)
		time.Sleep(10 * time.Second)
		stop()
		time.Sleep(time.Minute)
		first := clock.Now()
		if first < 10*time.Second || first > 10*time.Second+beatEvery {
			t.Errorf("after 10 s and a pause of a minute it says %v", first)
		}
		defer keepGoing(t, clock)()
		time.Sleep(10 * time.Second)
		if got := clock.Now() - first; got != 10*time.Second {
			t.Errorf("10 s after the pause it has gone on by %v", got)
		}
	})
}

// TestClockCountsShortDelays takes a busy machine for what it is: no beat for a moment is no pause.
func TestClockCountsShortDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := NewClock()
		keepGoing(t, clock)()
		time.Sleep(pauseFrom - time.Millisecond)
		if got := clock.Now(); got != pauseFrom-time.Millisecond {
			t.Errorf("it says %v", got)
		}
	})
}

// TestClockNeverGoesBack asks a clock just before a pause that it has not noticed yet.
func TestClockNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := NewClock()
		keepGoing(t, clock)()
		time.Sleep(pauseFrom - 100*time.Millisecond)
		before := clock.Now()
		time.Sleep(time.Minute)
		if after := clock.Now(); after < before {
			t.Errorf("it went back from %v to %v", before, after)
		}
	})
}

func running(t *testing.T) *Clock {
	clock := NewClock()
	t.Cleanup(keepGoing(t, clock))
	return clock
}

// keepGoing runs a clock until it is stopped.
func keepGoing(t *testing.T, clock *Clock) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		clock.Run(ctx)
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-done
	}
}
