package httpapi

import (
	"github.com/rollcall/rollcall/api"
)

func getStats(c *call) (answer, error) {
	q := c.query()
	from, to, err := q.timeRange()
	if err != nil {
		return answer{}, err
	}
	stats, err := c.api.dir.Stats(c.ctx(), c.caller, from, to)
	if err != nil {
		return answer{}, err
	}
	return data(api.Stats{
		Metrics:   api.StatsMetrics{ActiveUsers: stats.ActiveUsers},
		TimeRange: api.StatsTimeRange{FromDate: from * 1000, ToDate: to * 1000},
	})
}

// timeRange reads the required range in Unix seconds.
func (q *query) timeRange() (from, to int64, err error) {
	for _, name := range []string{"fromDate", "toDate"} {
		if q.text(name) == "" {
			q.wrong.Add(name, "The %s field is required: a time in Unix seconds.", name)
		}
	}
	from, to = q.integer(latestTime, "fromDate"), q.integer(latestTime, "toDate")
	return from, to, q.err()
}

// getMessageStats has nothing to count: messages are not this server's. It checks its input and answers an empty list.
func getMessageStats(c *call) (answer, error) {
	q := c.query()
	if _, _, err := q.timeRange(); err != nil {
		return answer{}, err
	}
	return data([]struct{}{})
}
