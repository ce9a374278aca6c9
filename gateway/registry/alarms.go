package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Alarm is the alarm of one facet. A facet's own database holds it too, written in
// the transaction that set it; this is the copy by which a sleeping facet is found.
type Alarm struct {
	Object  string // its id
	N       int    // the facet's number within it
	At      int64  // unix milliseconds, as the facet set it
	Due     int64  // when to try next, unix milliseconds
	Attempt int    // failures so far
	Start   []byte // how to start the facet without asking its supervisor
}

// SetAlarm stores an alarm over the facet's earlier one, durably. It tells ErrNotFound
// where the object is gone. How to start the facet, which may be long, is written where it is not stored already.
func (r *Registry) SetAlarm(ctx context.Context, a Alarm) error {
	hash := sha256.Sum256(a.Start)
	err := r.do(ctx, func(c *change) error {
		err := c.must(`INSERT OR REPLACE INTO alarm (object, n, at, due, attempt)
			SELECT id, ?, ?, ?, ? FROM object WHERE id = ?`, a.N, a.At, a.Due, a.Attempt, idKey(a.Object))
		if err != nil {
			return err
		}
		var stored []byte
		err = c.row(`SELECT hash FROM alarm_start WHERE object = ? AND n = ?`, []any{idKey(a.Object), a.N}, &stored)
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		case len(a.Start) == 0:
			return c.exec(`DELETE FROM alarm_start WHERE object = ? AND n = ?`, idKey(a.Object), a.N)
		case bytes.Equal(stored, hash[:]):
			return nil
		}
		return c.exec(`INSERT OR REPLACE INTO alarm_start (object, n, hash, start) VALUES (?, ?, ?, ?)`, idKey(a.Object), a.N, hash[:], a.Start)
	})
	if err != nil {
		return fmt.Errorf("set alarm: %w", err)
	}
	return nil
}

// MoveAlarm stores when an alarm is due that is stored already, durably; how to start the facet stays as it
// is. It tells ErrNotFound where none is stored.
func (r *Registry) MoveAlarm(ctx context.Context, a Alarm) error {
	err := r.do(ctx, func(c *change) error {
		return c.must(`UPDATE alarm SET at = ?, due = ?, attempt = ? WHERE object = ? AND n = ?`, a.At, a.Due, a.Attempt, idKey(a.Object), a.N)
	})
	if err != nil {
		return fmt.Errorf("move alarm: %w", err)
	}
	return nil
}

// ClearAlarm removes a facet's alarm, if it has one. How to start the facet stays for the next one, until RemoveAlarm or TidyAlarms.
func (r *Registry) ClearAlarm(ctx context.Context, object string, n int) error {
	err := r.do(ctx, func(c *change) error {
		return c.exec(`DELETE FROM alarm WHERE object = ? AND n = ?`, idKey(object), n)
	})
	if err != nil {
		return fmt.Errorf("clear alarm: %w", err)
	}
	return nil
}

// RemoveAlarm removes all that is stored of a facet's alarm.
func (r *Registry) RemoveAlarm(ctx context.Context, object string, n int) error {
	err := r.do(ctx, func(c *change) error {
		return errors.Join(c.exec(`DELETE FROM alarm WHERE object = ? AND n = ?`, idKey(object), n),
			c.exec(`DELETE FROM alarm_start WHERE object = ? AND n = ?`, idKey(object), n))
	})
	if err != nil {
		return fmt.Errorf("remove alarm: %w", err)
	}
	return nil
}

// TidyAlarms removes what is stored of how to start facets that have no alarm.
func (r *Registry) TidyAlarms(ctx context.Context) error {
	err := r.do(ctx, func(c *change) error {
		return c.exec(`DELETE FROM alarm_start WHERE NOT EXISTS (SELECT 1 FROM alarm a WHERE a.object = alarm_start.object AND a.n = alarm_start.n)`)
	})
	if err != nil {
		return fmt.Errorf("tidy alarms: %w", err)
	}
	return nil
}

// Alarms gives all alarms, the next due first.
func (r *Registry) Alarms(ctx context.Context) ([]Alarm, error) {
	rows, err := r.read.QueryContext(ctx, `SELECT object, n, at, due, attempt, start FROM alarm LEFT JOIN alarm_start USING (object, n) ORDER BY due`)
	if err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	defer rows.Close()
	var all []Alarm
	for rows.Next() {
		var a Alarm
		var id []byte
		if err := rows.Scan(&id, &a.N, &a.At, &a.Due, &a.Attempt, &a.Start); err != nil {
			return nil, fmt.Errorf("alarms: %w", err)
		}
		a.Object = hex.EncodeToString(id)
		all = append(all, a)
	}
	return all, rows.Err()
}

// ObjectByID gives the object of an id and the path of one of its facets by number; the root's is empty.
func (r *Registry) ObjectByID(ctx context.Context, id string, n int) (o *Object, path []string, err error) {
	var ns int64
	var name []byte
	var created int64
	if err := r.read.QueryRowContext(ctx, `SELECT namespace, name, created_at FROM object WHERE id = ?`, idKey(id)).Scan(&ns, &name, &created); err != nil {
		return nil, nil, fmt.Errorf("object %s %w", id, ErrNotFound)
	}
	for _, space := range r.Namespaces() {
		if space.ID == ns {
			o = newObject(space, string(name), time.UnixMilli(created))
		}
	}
	if o == nil {
		return nil, nil, fmt.Errorf("object %s %w", id, ErrNotFound)
	}
	for at := n; at != 0; {
		var parent int
		var part []byte
		if err := r.read.QueryRowContext(ctx, `SELECT parent, name FROM facet WHERE object = ? AND n = ?`, o.key(), at).Scan(&parent, &part); err != nil {
			return nil, nil, fmt.Errorf("facet %d of object %s %w", n, id, ErrNotFound)
		}
		path = append([]string{string(part)}, path...)
		at = parent
	}
	return o, path, nil
}
