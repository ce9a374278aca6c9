package registry

import (
	"context"
	"encoding/hex"
	"strings"
)

// audits are the facets whose statements are to be logged: few, so that all are
// kept in memory. It is never changed once published.
type audits map[auditKey]bool

// auditKey is an object's id and the names down to a facet, joined by NUL.
type auditKey struct{ object, path string }

// of says whether any facet of an object is audited.
func (a *audits) of(object string) bool {
	if a == nil {
		return false
	}
	for k := range *a {
		if k.object == object {
			return true
		}
	}
	return false
}

// Audited says whether the statements of a facet are to be logged, without a lock or a query.
func (r *Registry) Audited(o *Object, path ...string) bool {
	all := *r.audits.Load()
	return len(all) > 0 && all[auditKey{o.ID, strings.Join(path, "\x00")}]
}

// SetAudit says whether the statements of a facet are to be logged from now on. It
// holds for the address: a facet that is deleted and made again is still watched.
func (r *Registry) SetAudit(ctx context.Context, o *Object, path []string, on bool) error {
	return r.do(ctx, func(c *change) error {
		query := `DELETE FROM audit WHERE object = ? AND path = ?`
		if on {
			query = `INSERT OR IGNORE INTO audit (object, path) VALUES (?, ?)`
		}
		if err := c.exec(query, o.key(), []byte(strings.Join(path, "\x00"))); err != nil {
			return err
		}
		return r.loadAudits(c)
	})
}

// loadAudits publishes the audited facets once the change is durable.
func (r *Registry) loadAudits(c *change) error {
	all := audits{}
	err := c.rows(`SELECT object, path FROM audit`, nil, func(scan func(...any) error) error {
		var object, path []byte
		if err := scan(&object, &path); err != nil {
			return err
		}
		all[auditKey{hex.EncodeToString(object), string(path)}] = true
		return nil
	})
	if err != nil {
		return err
	}
	c.onCommit(func() { r.audits.Store(&all) })
	return nil
}
