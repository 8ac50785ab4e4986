package server

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// presenceMetrics are the numbers about sockets and presence.
type presenceMetrics struct {
	sockets               atomic.Int64
	sessions, online      prometheus.Gauge
	ended, transitions    *prometheus.CounterVec
	deliveries, dropped   prometheus.Counter
	waited                prometheus.Histogram
	listeners             prometheus.Histogram
	falselyOffline, stuck prometheus.Counter
}

func newPresenceMetrics(registerer prometheus.Registerer) *presenceMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &presenceMetrics{
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
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rollcall_sockets", Help: "Sockets that are open, those not authenticated yet included.",
	}, func() float64 { return float64(m.sockets.Load()) })
	registerer.MustRegister(
		open, m.sessions, m.online, m.ended, m.transitions, m.deliveries, m.dropped, m.waited, m.listeners,
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

func (m *presenceMetrics) SocketsChanged(by int) { m.sockets.Add(int64(by)) }
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

// newRegistry returns the metrics of the process.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// serverMetrics are the numbers about the server itself.
type serverMetrics struct {
	acceptFailures prometheus.Counter
	certificates   *prometheus.CounterVec
}

func newServerMetrics(registerer prometheus.Registerer, config Config) *serverMetrics {
	m := &serverMetrics{
		acceptFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_accept_failures_total",
			Help: "Failed attempts to accept a connection, for want of file descriptors for instance.",
		}),
		certificates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_certificate_reloads_total", Help: "Certificates that were read again, and taken or refused.",
		}, []string{"outcome"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "rollcall_build_info", Help: "What is running, in its labels. Always 1.",
	}, []string{"version", "commit", "go"})
	build.WithLabelValues(config.Version, config.Commit, runtime.Version()).Set(1)
	registerer.MustRegister(m.acceptFailures, build)
	if config.LogLost != nil {
		registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "rollcall_log_records_lost_total", Help: "Records of the log that could not be written.",
		}, func() float64 { return float64(config.LogLost()) }))
	}
	if config.Database == "" { // others are backed up by other programs
		registerer.MustRegister(&backupMetrics{dataDir: config.DataDir})
	}
	return m
}

// reloads returns what counts certificates.
func (m *serverMetrics) reloads() reloadOutcomes {
	return reloadOutcomes{
		taken: m.certificates.WithLabelValues("taken").Inc, refused: m.certificates.WithLabelValues("refused").Inc,
	}
}

// watchCertificates tells of what HTTPS serves.
func (m *serverMetrics) watchCertificates(registerer prometheus.Registerer, serving certificates) {
	registerer.MustRegister(m.certificates, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rollcall_certificate_expiry_timestamp_seconds",
		Help: "When the certificate ends that HTTPS serves, the first of several. 0 when there is none yet.",
	}, func() float64 {
		end := serving.expire()
		if end.IsZero() {
			return 0
		}
		return float64(end.Unix())
	}))
}

// backupMetrics tell when the database was backed up last.
type backupMetrics struct{ dataDir string }

var (
	backupTime = prometheus.NewDesc(
		"rollcall_backup_last_success_timestamp_seconds",
		"When `rollcall backup` last wrote a copy and found it sound. 0 for never.", nil, nil,
	)
	backupAge = prometheus.NewDesc(
		"rollcall_backup_age_seconds", "How long that is ago. +Inf for never.", nil, nil,
	)
	backupSize = prometheus.NewDesc("rollcall_backup_bytes", "Size of that copy.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *backupMetrics) Describe(into chan<- *prometheus.Desc) {
	into <- backupTime
	into <- backupAge
	into <- backupSize
}

// Collect implements prometheus.Collector.
func (m *backupMetrics) Collect(into chan<- prometheus.Metric) {
	at, age := 0.0, math.Inf(1)
	note, ok := readBackupNote(m.dataDir)
	if ok {
		at, age = float64(note.At.Unix()), max(0, time.Since(note.At).Seconds())
	}
	into <- prometheus.MustNewConstMetric(backupTime, prometheus.GaugeValue, at)
	into <- prometheus.MustNewConstMetric(backupAge, prometheus.GaugeValue, age)
	into <- prometheus.MustNewConstMetric(backupSize, prometheus.GaugeValue, float64(note.Bytes))
}

// databaseMetrics are the numbers about the database.
type databaseMetrics struct {
	store                    *sqlstore.Store
	reads, writes            prometheus.Observer
	readsFailed, writeFailed prometheus.Counter
	batches                  prometheus.Histogram

	mu sync.Mutex
	// measured is what was in the database at that time. Guarded by mu
	measured   sqlstore.Extent
	measuredAt time.Time
}

const (
	// measureEvery is how old the numbers may be that are found by counting rows.
	measureEvery = time.Minute
	// measurePatience is how long /metrics waits for them.
	measurePatience = 2 * time.Second
)

var (
	databaseUp = prometheus.NewDesc(
		"rollcall_database_up", "1 when the database can be used, as far as is known without asking it, else 0.", nil, nil,
	)
	databaseQueue = prometheus.NewDesc(
		"rollcall_database_write_queue", "Updates that wait for those before them to be committed.", nil, nil,
	)
	databaseConnections = prometheus.NewDesc(
		"rollcall_database_connections", "Connections that are open, by what they do.", []string{"state"}, nil,
	)
	databaseMaxConnections = prometheus.NewDesc(
		"rollcall_database_connections_max", "How many connections may be open.", nil, nil,
	)
	databaseBytes = prometheus.NewDesc(
		"rollcall_database_bytes", "What the database takes on the disk.", nil, nil,
	)
	databaseApps = prometheus.NewDesc(
		"rollcall_apps", "Apps in the database, those that are archived included.", nil, nil,
	)
	databaseUsers = prometheus.NewDesc(
		"rollcall_users", "Users of all apps in the database, those that are deactivated included.", nil, nil,
	)
)

func newDatabaseMetrics(registerer prometheus.Registerer, store *sqlstore.Store) *databaseMetrics {
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "rollcall_database_duration_seconds",
		Help:    "How long the database took: a read with what was made of it, or a commit of updates from its beginning.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"operation"})
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rollcall_database_failures_total", Help: "Reads and commits in which the database has failed.",
	}, []string{"operation"})
	m := &databaseMetrics{
		store: store,
		reads: took.WithLabelValues("read"), writes: took.WithLabelValues("write"),
		readsFailed: failed.WithLabelValues("read"), writeFailed: failed.WithLabelValues("write"),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_database_batch_updates", Help: "How many updates one commit made durable.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
	}
	registerer.MustRegister(took, failed, m.batches, m)
	return m
}

// Read implements sqlstore.Observer.
func (m *databaseMetrics) Read(took time.Duration, failed bool) {
	m.reads.Observe(took.Seconds())
	if failed {
		m.readsFailed.Inc()
	}
}

// Wrote implements sqlstore.Observer.
func (m *databaseMetrics) Wrote(updates int, took time.Duration, failed bool) {
	m.writes.Observe(took.Seconds())
	if failed {
		m.writeFailed.Inc()
		return
	}
	m.batches.Observe(float64(updates))
}

// Describe implements prometheus.Collector.
func (m *databaseMetrics) Describe(into chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		databaseUp, databaseQueue, databaseConnections, databaseMaxConnections, databaseBytes, databaseApps, databaseUsers,
	} {
		into <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *databaseMetrics) Collect(into chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		into <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	up := 0.0
	if m.store.Available() {
		up = 1
	}
	load := m.store.Load()
	gauge(databaseUp, up)
	gauge(databaseQueue, float64(load.Waiting))
	gauge(databaseConnections, float64(load.InUse), "in_use")
	gauge(databaseConnections, float64(load.Idle), "idle")
	gauge(databaseMaxConnections, float64(load.Max))
	if extent, ok := m.measure(); ok {
		gauge(databaseBytes, float64(extent.Bytes))
		gauge(databaseApps, float64(extent.Apps))
		gauge(databaseUsers, float64(extent.Users))
	}
}

// measure returns what is in the database, as it was not long ago. It is false when that could not be found out yet.
func (m *databaseMetrics) measure() (extent sqlstore.Extent, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.measuredAt.IsZero() || time.Since(m.measuredAt) >= measureEvery {
		ctx, cancel := context.WithTimeout(context.Background(), measurePatience)
		defer cancel()
		if now, err := m.store.Measure(ctx); err == nil {
			m.measured, m.measuredAt = now, time.Now()
		}
	}
	return m.measured, !m.measuredAt.IsZero()
}
