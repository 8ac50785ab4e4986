package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
)

// presenceMetrics are the numbers about sockets and presence.
type presenceMetrics struct {
	sockets, sessions, online prometheus.Gauge
	ended, transitions        *prometheus.CounterVec
	deliveries, dropped       prometheus.Counter
	waited                    prometheus.Histogram
	listeners                 prometheus.Histogram
	falselyOffline, stuck     prometheus.Counter
}

func newPresenceMetrics(registerer prometheus.Registerer) *presenceMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &presenceMetrics{
		sockets:  gauge("rollcall_sockets", "Sockets that are open, those not authenticated yet included."),
		sessions: gauge("rollcall_presence_sessions", "Sessions that are live."),
		online:   gauge("rollcall_presence_online_users", "Users who are online and do not hide it."),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_presence_sessions_ended_total", Help: "Sessions that ended, by cause.",
		}, []string{"cause"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_presence_transitions_total",
			Help: "Changes of a user's status that were announced, by status and cause.",
		}, []string{"status", "cause"}),
		deliveries: counter("rollcall_presence_deliveries_total", "Frames written to sockets."),
		dropped:    counter("rollcall_presence_queue_drops_total", "Sockets closed because their clients did not read."),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "rollcall_presence_fanout_seconds",
			Help:    "Time from an event to the write that carried it, for the oldest frame of each write.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		listeners: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_presence_listeners", Help: "How many sessions heard of a change.",
			Buckets: []float64{0, 1, 10, 100, 1000, 10_000, 100_000},
		}),
		falselyOffline: counter(
			"presence_false_offline_total", "Users found announced as offline in spite of a live session. Must be 0.",
		),
		stuck: counter("presence_stuck_total", "Users found announced as online without any session. Must be 0."),
	}
	registerer.MustRegister(
		m.sockets, m.sessions, m.online, m.ended, m.transitions, m.deliveries, m.dropped, m.waited, m.listeners,
		m.falselyOffline, m.stuck,
	)
	return m
}

// countIndexed tells the size of what lists are answered from.
func countIndexed(registerer prometheus.Registerer, d *directory.Directory) {
	registerer.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_index_users", Help: "Users who are held in memory so that they can be listed.",
		}, func() float64 {
			users, _ := d.IndexSize()
			return float64(users)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_index_bytes", Help: "About how much memory that takes.",
		}, func() float64 {
			_, bytes := d.IndexSize()
			return float64(bytes)
		}),
	)
}

func (m *presenceMetrics) SocketsChanged(by int) { m.sockets.Add(float64(by)) }
func (m *presenceMetrics) SessionOpened()        { m.sessions.Inc() }
func (m *presenceMetrics) OnlineChanged(by int)  { m.online.Add(float64(by)) }
func (m *presenceMetrics) FalselyOffline()       { m.falselyOffline.Inc() }
func (m *presenceMetrics) Stuck()                { m.stuck.Inc() }
func (m *presenceMetrics) Dropped()              { m.dropped.Inc() }

func (m *presenceMetrics) SessionEnded(cause presence.Cause) {
	m.sessions.Dec()
	m.ended.WithLabelValues(string(cause)).Inc()
}

func (m *presenceMetrics) Announced(status presence.Status, cause presence.Cause, listeners int) {
	m.transitions.WithLabelValues(status.String(), string(cause)).Inc()
	m.listeners.Observe(float64(listeners))
}

func (m *presenceMetrics) Delivered(frames int, waited time.Duration) {
	m.deliveries.Add(float64(frames))
	m.waited.Observe(waited.Seconds())
}

func newAcceptFailures(registerer prometheus.Registerer) prometheus.Counter {
	failures := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rollcall_accept_failures_total",
		Help: "Failed attempts to accept a connection, for want of file descriptors for instance.",
	})
	registerer.MustRegister(failures)
	return failures
}

func countLostRecords(registerer prometheus.Registerer, lost func() int64) {
	registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "rollcall_log_records_lost_total", Help: "Records of the log that could not be written.",
	}, func() float64 { return float64(lost()) }))
}
