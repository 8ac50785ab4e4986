package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryEvery is how often it is looked whether memory can be given back.
	memoryEvery = 3 * time.Second
	// calm is how much may be allocated between two looks, in bytes, for the server to count as having nothing to do.
	calm = 4 << 20
	// worthwhile is how much unused memory it takes, in bytes.
	worthwhile = 8 << 20
)

// giveMemoryBack returns what a burst has left unused to the operating system as soon as the burst is over, until ctx
// ends. The runtime by itself takes minutes, and never less than twice what is in use.
func giveMemoryBack(ctx context.Context) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
	}
	ticker := time.NewTicker(memoryEvery)
	defer ticker.Stop()
	var allocated, trimmedAt uint64
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(samples)
		now, free := samples[0].Value.Uint64(), samples[1].Value.Uint64()
		live, objects := samples[2].Value.Uint64(), samples[3].Value.Uint64()
		since := now - allocated
		allocated = now
		dead := uint64(0)
		if objects > live {
			dead = objects - live // at most: what is new may be in use
		}
		// Nothing is gained by doing it again before something has happened.
		if since < calm && now-trimmedAt > calm && free+dead > worthwhile {
			trimmedAt = now
			debug.FreeOSMemory()
		}
	}
}
