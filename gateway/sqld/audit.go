package sqld

import (
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// audit tells the gateway about a statement. A gateway that can't take it now
// is told later how many it missed.
func (t *task) audit(err error) {
	var sql string
	switch t.typ {
	case sqlchan.Exec, sqlchan.Query:
		sql = string(t.sql[:min(len(t.sql), control.MaxAuditSQL)])
	case sqlchan.Begin:
		sql = "BEGIN"
	case sqlchan.Commit:
		sql = "COMMIT"
	case sqlchan.Rollback:
		sql = "ROLLBACK"
	default:
		return
	}
	t.tell(sql, err)
}

func (t *task) tell(sql string, err error) {
	r := &control.Record{
		Time: time.Now().UTC(), SQL: sql, Rows: t.stats.rows, Bytes: t.stats.bytes, Duration: time.Duration(now() - t.began),
	}
	if err != nil {
		r.Code = t.classify(err).Code
	}
	w := t.ch.w
	r.Dropped = w.dropped.Swap(0)
	if !w.notify(&control.Message{Op: control.Audit, Channel: t.ch.id, Record: r}, false) {
		w.dropped.Add(r.Dropped + 1)
	}
}
