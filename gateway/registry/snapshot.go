package registry

import (
	"encoding/json"
	"errors"
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
	set  map[string]json.RawMessage // the limits that someone has set; the others are defaults
	apps map[string]*appState
}

type appState struct {
	live         *Version
	canary       *Version // nil for none
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
	err = c.rows(`SELECT namespace, count(*) FROM object GROUP BY namespace`, nil, func(scan func(...any) error) error {
		var id int64
		var n int
		if err := scan(&id, &n); err != nil {
			return err
		}
		counts[id] = n
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.loadAudits(c); err != nil {
		return err
	}
	c.onCommit(func() {
		r.snap.Store(s)
		r.counts.replace(counts)
	})
	return nil
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
	err := c.row(`SELECT id, supervisor, creation, access, egress, limits, created_at FROM namespace WHERE name = ?`, []any{name},
		&sp.ns.ID, &sp.ns.Supervisor, &sp.ns.Create, &sp.ns.Access, &sp.ns.Egress, &limits, &created)
	if err != nil {
		return nil, err
	}
	sp.ns.CreatedAt = time.UnixMilli(created).UTC()
	if sp.ns.Supervisor != "" {
		sp.ns.Limits = SupervisorLimits()
	}
	if err := errors.Join(json.Unmarshal([]byte(limits), &sp.ns.Limits), json.Unmarshal([]byte(limits), &sp.set)); err != nil {
		return nil, err
	}
	err = c.rows(`SELECT app, version, bundle, bytes, version = live, iif(version = canary, percent, 0), created_at FROM version
		JOIN app ON app.namespace = version.namespace AND app.name = version.app AND version.version IN (app.live, app.canary)
		WHERE version.namespace = ?`, []any{sp.ns.ID}, func(scan func(...any) error) error {
		v := &Version{Namespace: name}
		if err := scan(&v.App, &v.Version, &v.Bundle, &v.Bytes, &v.Live, &v.Canary, &created); err != nil {
			return err
		}
		v.CreatedAt = time.UnixMilli(created).UTC()
		st := sp.apps[v.App]
		if st == nil {
			st = new(appState)
			sp.apps[v.App] = st
		}
		if v.Live {
			st.live = v
		} else {
			st.canary = v
		}
		return nil
	})
	if err != nil {
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
