package registry

import (
	"context"
	"encoding/json"
	"maps"
	"time"
)

// snapshot is what requests look up: never changed once published, so that a
// reader takes no lock.
type snapshot struct {
	spaces map[string]*space
}

// space is a namespace with the apps in it.
type space struct {
	ns   Namespace
	apps map[string]*appState
}

type appState struct {
	live         *Version
	env, secrets map[string]string
}

// loadSnapshot reads everything that the snapshot holds.
func (r *Registry) loadSnapshot(c *change) error {
	names, err := c.texts(`SELECT name FROM namespace`)
	if err != nil {
		return err
	}
	s := &snapshot{spaces: make(map[string]*space, len(names))}
	for _, name := range names {
		if s.spaces[name], err = loadSpace(c, name); err != nil {
			return err
		}
	}
	counts := make(map[int64]int)
	rows, err := c.conn.QueryContext(context.Background(), `SELECT namespace, count(*) FROM object GROUP BY namespace`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return err
		}
		counts[id] = n
	}
	c.onCommit(func() {
		r.snap.Store(s)
		r.counts.replace(counts)
	})
	return rows.Err()
}

// reload publishes a namespace anew once the change that touched it is durable;
// one that is gone is taken out.
func (r *Registry) reload(c *change, name string) error {
	sp, err := loadSpace(c, name)
	if err != nil && err != ErrNotFound {
		return err
	}
	c.onCommit(func() {
		next := &snapshot{spaces: maps.Clone(r.snap.Load().spaces)}
		if sp == nil {
			delete(next.spaces, name)
		} else {
			next.spaces[name] = sp
		}
		r.snap.Store(next)
	})
	return nil
}

func loadSpace(c *change, name string) (*space, error) {
	sp := &space{ns: Namespace{Name: name, Limits: DefaultLimits()}, apps: make(map[string]*appState)}
	var limits string
	var created int64
	err := c.row(`SELECT id, supervisor, creation, access, limits, created_at FROM namespace WHERE name = ?`, []any{name},
		&sp.ns.ID, &sp.ns.Supervisor, &sp.ns.Create, &sp.ns.Access, &limits, &created)
	if err != nil {
		return nil, err
	}
	sp.ns.CreatedAt = time.UnixMilli(created).UTC()
	if err := json.Unmarshal([]byte(limits), &sp.ns.Limits); err != nil {
		return nil, err
	}
	rows, err := c.conn.QueryContext(context.Background(), `SELECT app, version, bundle, bytes, created_at FROM version
		JOIN app ON app.namespace = version.namespace AND app.name = version.app AND app.live = version.version
		WHERE version.namespace = ?`, sp.ns.ID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		v := &Version{Namespace: name, Live: true}
		if err := rows.Scan(&v.App, &v.Version, &v.Bundle, &v.Bytes, &created); err != nil {
			return nil, err
		}
		v.CreatedAt = time.UnixMilli(created).UTC()
		sp.apps[v.App] = &appState{live: v}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for app, st := range sp.apps {
		if st.env, err = c.pairs(`SELECT name, value FROM app_env WHERE namespace = ? AND app = ?`, sp.ns.ID, app); err != nil {
			return nil, err
		}
		if st.secrets, err = c.pairs(`SELECT name, value FROM app_secret WHERE namespace = ? AND app = ?`, sp.ns.ID, app); err != nil {
			return nil, err
		}
	}
	return sp, nil
}

func (c *change) texts(query string, args ...any) ([]string, error) {
	rows, err := c.conn.QueryContext(context.Background(), query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

func (c *change) pairs(query string, args ...any) (map[string]string, error) {
	rows, err := c.conn.QueryContext(context.Background(), query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[string]string)
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			return nil, err
		}
		all[k] = v
	}
	return all, rows.Err()
}
