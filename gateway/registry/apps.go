package registry

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// Version is one bundle of an app. It is shared and must not be changed.
type Version struct {
	Namespace string
	App       string
	Version   int
	Bundle    string // SHA-256 in hexadecimal
	Bytes     int64
	Live      bool
	Canary    int // percent of the objects that run it beside the live one; 0 where it is no canary
	CreatedAt time.Time
}

// maxEnvBytes is what one app's environment and secrets may take together: they
// travel in one start message, which holds 1 MiB.
const maxEnvBytes = 768 << 10

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,127}$`)

// Live looks up the version of an app that runs now, without a lock or a query.
func (r *Registry) Live(ns, app string) (*Version, error) {
	st, err := r.app(ns, app)
	if err != nil {
		return nil, err
	}
	return st.live, nil
}

// AppEnv gives what an app is started with. The maps must not be changed.
func (r *Registry) AppEnv(ns, app string) (env, secrets map[string]string) {
	st, err := r.app(ns, app)
	if err != nil {
		return nil, nil
	}
	return st.env, st.secrets
}

func (r *Registry) app(ns, app string) (*appState, error) {
	sp := r.snap.Load().spaces[ns]
	if sp == nil {
		return nil, fmt.Errorf("namespace %q %w", ns, ErrNotFound)
	}
	st := sp.apps[app]
	if st == nil {
		return nil, fmt.Errorf("app %q of namespace %q %w", app, ns, ErrNotFound)
	}
	return st, nil
}

// Apps lists the live version of each app of a namespace, by name; of all
// namespaces if ns is empty.
func (r *Registry) Apps(ns string) ([]*Version, error) {
	if ns != "" {
		if _, err := r.Namespace(ns); err != nil {
			return nil, err
		}
	}
	var all []*Version
	for name, sp := range r.snap.Load().spaces {
		if ns != "" && name != ns {
			continue
		}
		for _, st := range sp.apps {
			all = append(all, st.live)
		}
	}
	slices.SortFunc(all, func(a, b *Version) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.App, b.App)
	})
	return all, nil
}

// AddVersion adds a bundle to an app, which it creates if need be. The new
// version is live from then on, and a canary that is on has ended.
func (r *Registry) AddVersion(ctx context.Context, ns, app, bundle string, bytes int64) (Version, error) {
	if err := address.CheckName(app); err != nil {
		return Version{}, err
	}
	v := Version{Namespace: ns, App: app, Bundle: bundle, Bytes: bytes, Live: true, CreatedAt: r.now().Truncate(time.Millisecond).UTC()}
	err := r.do(ctx, func(c *change) error {
		id, err := namespaceID(c, ns)
		if err != nil {
			return err
		}
		if err := c.row(`INSERT INTO app (namespace, name, live, newest) VALUES (?, ?, 1, 1)
			ON CONFLICT DO UPDATE SET newest = newest + 1, live = newest + 1, canary = 0, percent = 0 RETURNING newest`, []any{id, app}, &v.Version); err != nil {
			return err
		}
		if err := c.exec(`INSERT INTO version (namespace, app, version, bundle, bytes, created_at) VALUES (?, ?, ?, ?, ?, ?)`,
			id, app, v.Version, bundle, bytes, v.CreatedAt.UnixMilli()); err != nil {
			return err
		}
		return r.reload(c, ns)
	})
	if err != nil {
		return Version{}, err
	}
	return v, nil
}

// Versions lists an app's versions, newest first.
func (r *Registry) Versions(ctx context.Context, ns, app string) ([]Version, error) {
	if _, err := r.app(ns, app); err != nil {
		return nil, err
	}
	return queryVersions(ctx, r.read, ns, `WHERE n.name = ? AND v.app = ? ORDER BY v.version DESC`, ns, app)
}

// VersionOf gives one version of an app.
func (r *Registry) VersionOf(ctx context.Context, ns, app string, version int) (*Version, error) {
	live, err := r.Live(ns, app)
	if err != nil {
		return nil, err
	}
	if live.Version == version {
		return live, nil
	}
	found, err := queryVersions(ctx, r.read, ns, `WHERE n.name = ? AND v.app = ? AND v.version = ?`, ns, app, version)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("version %d of app %q %w", version, app, ErrNotFound)
	}
	return &found[0], nil
}

func queryVersions(ctx context.Context, db *sql.DB, ns, where string, args ...any) ([]Version, error) {
	rows, err := db.QueryContext(ctx, `SELECT v.app, v.version, v.bundle, v.bytes, v.version = a.live, iif(v.version = a.canary, a.percent, 0), v.created_at FROM version v
		JOIN app a ON a.namespace = v.namespace AND a.name = v.app JOIN namespace n ON n.id = v.namespace `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("versions: %w", err)
	}
	defer rows.Close()
	var all []Version
	for rows.Next() {
		v := Version{Namespace: ns}
		var created int64
		if err := rows.Scan(&v.App, &v.Version, &v.Bundle, &v.Bytes, &v.Live, &v.Canary, &created); err != nil {
			return nil, fmt.Errorf("versions: %w", err)
		}
		v.CreatedAt = time.UnixMilli(created).UTC()
		all = append(all, v)
	}
	return all, rows.Err()
}

// Rollback makes an older version live again, or a newer one after that;
// version 0 is the one before the live one. A canary that is on ends: for
// version 0 that is all, since the live version is what came before it.
func (r *Registry) Rollback(ctx context.Context, ns, app string, version int) (Version, error) {
	err := r.do(ctx, func(c *change) error {
		id, err := namespaceID(c, ns)
		if err != nil {
			return err
		}
		to := version
		if to == 0 {
			ended, err := c.affected(`UPDATE app SET canary = 0, percent = 0 WHERE namespace = ? AND name = ? AND canary > 0`, id, app)
			if err != nil {
				return err
			}
			if ended > 0 {
				return r.reload(c, ns)
			}
			if err := c.row(`SELECT coalesce((SELECT max(version) FROM version v WHERE v.namespace = app.namespace AND v.app = app.name AND v.version < app.live), 0)
				FROM app WHERE namespace = ? AND name = ?`, []any{id, app}, &to); err != nil {
				return fmt.Errorf("app %q %w", app, err)
			}
			if to == 0 {
				return fmt.Errorf("a version of app %q before the live one %w", app, ErrNotFound)
			}
		}
		if err := c.must(`UPDATE app SET live = ?1, canary = 0, percent = 0 WHERE namespace = ?2 AND name = ?3
			AND EXISTS (SELECT 1 FROM version WHERE namespace = ?2 AND app = ?3 AND version = ?1)`, to, id, app); err != nil {
			return fmt.Errorf("version %d of app %q %w", to, app, err)
		}
		return r.reload(c, ns)
	})
	if err != nil {
		return Version{}, err
	}
	v, err := r.Live(ns, app)
	if err != nil {
		return Version{}, err
	}
	return *v, nil
}

// RemoveApp removes an app with its versions, environment and secrets. The data
// of its facets stays. The supervisor of a namespace is refused with ErrInUse.
func (r *Registry) RemoveApp(ctx context.Context, ns, app string) error {
	return r.do(ctx, func(c *change) error {
		id, err := namespaceID(c, ns)
		if err != nil {
			return err
		}
		var supervisor string
		if err := c.row(`SELECT supervisor FROM namespace WHERE id = ?`, []any{id}, &supervisor); err != nil {
			return err
		}
		if supervisor == app {
			return fmt.Errorf("app %q is the supervisor of namespace %q: %w", app, ns, ErrInUse)
		}
		if err := c.must(`DELETE FROM app WHERE namespace = ? AND name = ?`, id, app); err != nil {
			return fmt.Errorf("app %q of namespace %q %w", app, ns, err)
		}
		return r.reload(c, ns)
	})
}

// SetApp changes an app's environment and secrets, which instances started
// afterwards see. An empty value removes the name.
func (r *Registry) SetApp(ctx context.Context, ns, app string, env, secrets map[string]string) error {
	return r.do(ctx, func(c *change) error {
		id, err := namespaceID(c, ns)
		if err != nil {
			return err
		}
		var n int
		if err := c.row(`SELECT count(*) FROM app WHERE namespace = ? AND name = ?`, []any{id, app}, &n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("app %q of namespace %q %w", app, ns, ErrNotFound)
		}
		if err := setPairs(c, "app_env", id, app, env, func(v string) any { return v }); err != nil {
			return err
		}
		if err := setPairs(c, "app_secret", id, app, secrets, func(v string) any { return []byte(v) }); err != nil {
			return err
		}
		var bytes int
		if err := c.row(`SELECT coalesce(sum(b), 0) FROM (
			SELECT length(name) + length(CAST(value AS BLOB)) AS b FROM app_env WHERE namespace = ?1 AND app = ?2 UNION ALL
			SELECT length(name) + length(value) FROM app_secret WHERE namespace = ?1 AND app = ?2)`, []any{id, app}, &bytes); err != nil {
			return err
		}
		if bytes > maxEnvBytes {
			return fmt.Errorf("%w: environment and secrets of %d bytes: at most %d are allowed", ErrBadValue, bytes, maxEnvBytes)
		}
		return r.reload(c, ns)
	})
}

// setPairs writes one of the two tables of names and values. Table is a constant of this file.
func setPairs(c *change, table string, id int64, app string, pairs map[string]string, column func(string) any) error {
	for name, value := range pairs {
		if !envName.MatchString(name) {
			return fmt.Errorf("%w: %q is no name of a variable: letters, digits, '_', '.' and '-' are allowed, at most 128", ErrBadValue, name)
		}
		var err error
		if value == "" {
			err = c.exec(`DELETE FROM `+table+` WHERE namespace = ? AND app = ? AND name = ?`, id, app, name)
		} else {
			err = c.exec(`INSERT OR REPLACE INTO `+table+` (namespace, app, name, value) VALUES (?, ?, ?, ?)`, id, app, name, column(value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Bundles gives the hashes that some version refers to.
func (r *Registry) Bundles(ctx context.Context) (map[string]bool, error) {
	rows, err := r.read.QueryContext(ctx, `SELECT DISTINCT bundle FROM version`)
	if err != nil {
		return nil, fmt.Errorf("bundles: %w", err)
	}
	defer rows.Close()
	used := make(map[string]bool)
	for rows.Next() {
		var hash string
		if err := rows.Scan(&hash); err != nil {
			return nil, fmt.Errorf("bundles: %w", err)
		}
		used[hash] = true
	}
	return used, rows.Err()
}

func namespaceID(c *change, name string) (id int64, err error) {
	if err = c.row(`SELECT id FROM namespace WHERE name = ?`, []any{name}, &id); err != nil {
		err = fmt.Errorf("namespace %q %w", name, err)
	}
	return id, err
}
