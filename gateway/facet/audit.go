package facet

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/sqlpool"
)

// auditor writes the statements of one SQL channel into the log of its facet. It owns the channel.
type auditor struct {
	log  *logs.Writer
	by   string // "administrator" where it is not the facet itself
	hide *hider
}

// Audit is what the pool calls for each statement of a channel that is audited. It does not wait:
// the log's own limits decide what is kept.
func Audit(c *sqlpool.Channel, r sqlpool.AuditRecord) {
	if a, ok := c.Owner().(*auditor); ok {
		r.SQL = a.hide.hide(r.SQL)
		a.log.Append(logs.StreamSQL, "", auditLine(&r, a.by))
	}
}

// auditLine is the statement's text and what it did, as k=v like any record's attributes.
func auditLine(r *sqlpool.AuditRecord, by string) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(r.SQL))
	b.WriteString(" rows=" + strconv.FormatInt(r.Rows, 10))
	b.WriteString(" bytes=" + strconv.FormatInt(r.Bytes, 10))
	b.WriteString(" time=" + r.Duration.Round(time.Microsecond).String())
	if r.Code != "" {
		b.WriteString(" error=" + r.Code)
	}
	if by != "" {
		b.WriteString(" by=" + by)
	}
	if r.Dropped > 0 {
		b.WriteString(" dropped=" + strconv.FormatInt(r.Dropped, 10))
	}
	return b.String()
}

// SetAudit says whether the statements of a facet go into its log. It takes effect on the running
// instance before it returns, and stays across restarts.
func (m *Manager) SetAudit(ctx context.Context, a address.Address, on bool) error {
	r, err := m.find(ctx, a)
	if err != nil {
		return err
	}
	if err := m.Registry.SetAudit(ctx, r.object, a.Facets, on); err != nil {
		return err
	}
	n := m.known(keyOf(a))
	if n == nil {
		return nil
	}
	n.mu.Lock()
	in := n.in
	n.mu.Unlock()
	if in == nil {
		return nil
	}
	select { // one that starts may have asked the registry before
	case <-in.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if in.failure != nil {
		return nil
	}
	select {
	case <-in.attached:
	case <-ctx.Done():
		return ctx.Err()
	}
	if in.sql == nil {
		return nil
	}
	return in.sql.SetAudit(ctx, on)
}
