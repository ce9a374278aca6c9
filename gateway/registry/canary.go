package registry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// VersionFor says which version of an app an object runs: the canary where there is
// one and the object is among those that try it, else the live one. It takes no
// lock and makes no query.
func (r *Registry) VersionFor(ns, app, object string) (*Version, error) {
	st, err := r.app(ns, app)
	if err != nil {
		return nil, err
	}
	if st.canary != nil && tries(app, object, st.canary.Canary) {
		return st.canary, nil
	}
	return st.live, nil
}

// tries says whether an object is among the given percentage of those that run an
// app's canary. It depends on the two names alone: an object does not go to and fro,
// a higher percentage adds objects and takes none away, and the objects that try one
// app first are not those that try every app first.
func tries(app, object string, percent int) bool {
	sum := sha256.Sum256([]byte(app + "\x00" + object))
	return int(binary.BigEndian.Uint64(sum[:])%100) < percent
}

// AddCanary adds a bundle to an app that has a live version, which stays live: the
// given percentage of the objects run the new one. It takes the place of a canary
// that is on; one of the same bundle keeps its number and changes its percentage.
func (r *Registry) AddCanary(ctx context.Context, ns, app, bundle string, bytes int64, percent int) (Version, error) {
	if err := address.CheckName(app); err != nil {
		return Version{}, err
	}
	if percent < 1 || percent > 100 {
		return Version{}, fmt.Errorf("%w: a canary of %d percent: 1 to 100 are allowed", ErrBadValue, percent)
	}
	v := Version{Namespace: ns, App: app, Bundle: bundle, Bytes: bytes, Canary: percent, CreatedAt: r.now().Truncate(time.Millisecond).UTC()}
	err := r.do(ctx, func(c *change) error {
		id, err := namespaceID(c, ns)
		if err != nil {
			return err
		}
		var canary, newest int
		if err := c.row(`SELECT canary, newest FROM app WHERE namespace = ? AND name = ?`, []any{id, app}, &canary, &newest); err != nil {
			return fmt.Errorf("app %q, beside whose live version a canary would run, %w", app, err)
		}
		var same int
		var created int64
		if err := c.row(`SELECT count(*), coalesce(max(created_at), 0) FROM version WHERE namespace = ? AND app = ? AND version = ? AND bundle = ?`,
			[]any{id, app, canary, bundle}, &same, &created); err != nil {
			return err
		}
		if same > 0 {
			v.Version, v.CreatedAt = canary, time.UnixMilli(created).UTC()
		} else {
			v.Version = newest + 1
			if err := c.exec(`INSERT INTO version (namespace, app, version, bundle, bytes, created_at) VALUES (?, ?, ?, ?, ?, ?)`,
				id, app, v.Version, bundle, bytes, v.CreatedAt.UnixMilli()); err != nil {
				return err
			}
		}
		if err := c.exec(`UPDATE app SET newest = max(newest, ?1), canary = ?1, percent = ?2 WHERE namespace = ?3 AND name = ?4`, v.Version, percent, id, app); err != nil {
			return err
		}
		return r.reload(c, ns)
	})
	if err != nil {
		return Version{}, err
	}
	return v, nil
}

// Promote makes an app's canary its live version.
func (r *Registry) Promote(ctx context.Context, ns, app string) (Version, error) {
	err := r.do(ctx, func(c *change) error {
		id, err := namespaceID(c, ns)
		if err != nil {
			return err
		}
		if err := c.must(`UPDATE app SET live = canary, canary = 0, percent = 0 WHERE namespace = ? AND name = ? AND canary > 0`, id, app); err != nil {
			var n int
			if none := c.row(`SELECT 1 FROM app WHERE namespace = ? AND name = ?`, []any{id, app}, &n); none != nil {
				return fmt.Errorf("app %q %w", app, none)
			}
			return fmt.Errorf("a canary of app %q %w", app, err)
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
