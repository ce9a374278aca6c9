package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// Values of Namespace.Create and Namespace.Access.
const (
	CreateOpen   = "open"  // a request may create an object
	CreateAdmin  = "admin" // only the administrator creates objects
	AccessLocal  = "local" // loopback listeners only
	AccessPublic = "public"
	AccessToken  = "token"
)

// ReservedNamespace begins no address: its paths are the gateway's own on the web.
const ReservedNamespace = "_fgw"

// Namespace is an administrator's unit. It is shared by all who look it up and
// must not be changed.
type Namespace struct {
	ID         int64
	Name       string
	Supervisor string // the app that is the root facet of its objects; empty: the built-in one
	Create     string
	Access     string
	Egress     string // the hosts that its supervisor, or its apps under the built-in one, may call, parted by commas; what a supervisor grants to others is its own affair
	Limits     Limits
	CreatedAt  time.Time
}

// Namespace looks a namespace up without a lock or a query.
func (r *Registry) Namespace(name string) (*Namespace, error) {
	if sp := r.snap.Load().spaces[name]; sp != nil {
		return &sp.ns, nil
	}
	return nil, fmt.Errorf("namespace %q %w", name, ErrNotFound)
}

// Namespaces lists all, by name.
func (r *Registry) Namespaces() []*Namespace {
	spaces := r.snap.Load().spaces
	all := make([]*Namespace, 0, len(spaces))
	for _, sp := range spaces {
		all = append(all, &sp.ns)
	}
	slices.SortFunc(all, func(a, b *Namespace) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// CountObjects tells how many objects a namespace has.
func (r *Registry) CountObjects(ns *Namespace) int { return r.counts.get(ns.ID) }

// CreateNamespace creates a namespace with the default limits.
func (r *Registry) CreateNamespace(ctx context.Context, name string) (*Namespace, error) {
	if err := address.CheckName(name); err != nil {
		return nil, err
	}
	err := r.do(ctx, func(c *change) error {
		var n int
		if err := c.row(`SELECT count(*) FROM namespace WHERE name = ?`, []any{name}, &n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("namespace %q %w", name, ErrExists)
		}
		if err := c.exec(`INSERT INTO namespace (name, created_at) VALUES (?, ?)`, name, r.now().UnixMilli()); err != nil {
			return err
		}
		return r.reload(c, name)
	})
	if err != nil {
		return nil, err
	}
	return r.Namespace(name)
}

// SetNamespace changes what values names: all of them or, if one is refused, none. That egress is a list of hosts is checked by the caller.
func (r *Registry) SetNamespace(ctx context.Context, name string, values map[string]string) (*Namespace, error) {
	err := r.do(ctx, func(c *change) error {
		sp, err := loadSpace(c, name)
		if err != nil {
			return fmt.Errorf("namespace %q %w", name, err)
		}
		ns := sp.ns
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if err := ns.set(key, values[key]); err != nil {
				return err
			}
			if _, limit := limitRules[key]; limit {
				if sp.set[key], err = json.Marshal(values[key]); err != nil {
					return err
				}
			}
		}
		if sup := values["supervisor"]; sup != "" && sp.apps[sup] == nil {
			return fmt.Errorf("%w: supervisor=%s: namespace %q has no app of that name: deploy it first", ErrBadValue, sup, name)
		}
		limits, err := json.Marshal(sp.set)
		if err != nil {
			return err
		}
		if err := c.exec(`UPDATE namespace SET supervisor = ?, creation = ?, access = ?, egress = ?, limits = ? WHERE id = ?`,
			ns.Supervisor, ns.Create, ns.Access, ns.Egress, string(limits), ns.ID); err != nil {
			return err
		}
		return r.reload(c, name)
	})
	if err != nil {
		return nil, err
	}
	return r.Namespace(name)
}

// set changes one value, refusing it with what is allowed.
func (ns *Namespace) set(key, value string) error {
	switch key {
	case "create":
		return oneOf(&ns.Create, key, value, CreateOpen, CreateAdmin)
	case "access":
		return oneOf(&ns.Access, key, value, AccessLocal, AccessPublic, AccessToken)
	case "supervisor":
		if value != "" {
			if err := address.CheckName(value); err != nil {
				return fmt.Errorf("%w: supervisor: %w", ErrBadValue, err)
			}
		}
		ns.Supervisor = value
		return nil
	case "egress":
		ns.Egress = strings.Join(Hosts(value), ",")
		return nil
	}
	known, err := setLimit(&ns.Limits, key, value)
	if !known {
		return fmt.Errorf("%w: there is no key %q: use %s", ErrBadValue, key, strings.Join(NamespaceKeys(), ", "))
	}
	return err
}

// Hosts parts a list of hosts.
func Hosts(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' })
}

// NamespaceKeys are the keys that SetNamespace takes.
func NamespaceKeys() []string {
	return append([]string{"create", "access", "supervisor", "egress"}, slices.Sorted(maps.Keys(limitRules))...)
}

func oneOf(into *string, key, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return fmt.Errorf("%w: %s=%s: %s is allowed", ErrBadValue, key, value, strings.Join(allowed, " or "))
	}
	*into = value
	return nil
}

// RemoveNamespace removes a namespace with its apps. One that has objects is
// refused with ErrNotEmpty unless force is given, which removes them too. The
// caller has stopped what runs in it.
func (r *Registry) RemoveNamespace(ctx context.Context, name string, force bool) error {
	ns, err := r.Namespace(name)
	if err != nil {
		return err
	}
	var trashed []string
	err = r.do(ctx, func(c *change) error {
		ids, err := c.texts(`SELECT lower(hex(id)) FROM object WHERE namespace = ?`, ns.ID)
		if err != nil {
			return err
		}
		if len(ids) > 0 && !force {
			return fmt.Errorf("namespace %q has %d objects: %w", name, len(ids), ErrNotEmpty)
		}
		for _, id := range ids {
			t, err := r.removeObject(c, ns, id)
			if err != nil {
				return err
			}
			trashed = append(trashed, t)
		}
		if err := c.must(`DELETE FROM namespace WHERE id = ?`, ns.ID); err != nil {
			return fmt.Errorf("namespace %q %w", name, err)
		}
		return r.reload(c, name)
	})
	if err != nil {
		return err
	}
	return r.empty(trashed)
}

// counts is how many objects each namespace has. The writer goroutine changes
// it as it applies a change, so that a group cannot pass a limit together.
type counts struct {
	mu sync.Mutex
	n  map[int64]int
}

func (c *counts) get(id int64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[id]
}

func (c *counts) add(id int64, d int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[id] += d; c.n[id] == 0 {
		delete(c.n, id)
	}
}

func (c *counts) replace(n map[int64]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = n
}
