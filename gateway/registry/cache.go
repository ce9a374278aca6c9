package registry

import (
	"container/list"
	"strconv"
	"sync"
)

// maxCached bounds the objects and facets that are looked up without a query;
// an entry takes some 300 bytes.
const maxCached = 50_000

// cache remembers objects and facet numbers that were found, least recently
// used out first. What is absent is never remembered, so only a removal can make
// an entry wrong: a reader takes the count of removals before it queries, and
// its find is not kept if that has moved on.
type cache struct {
	mu       sync.Mutex
	removals int
	entries  map[string]*list.Element
	order    list.List // of *cached, most recently used first
	byObject map[string]map[string]bool
}

type cached struct {
	key, id string
	object  *Object // or nil: a facet
	n       int
}

func objectKey(namespace int64, name string) string {
	return "o" + strconv.FormatInt(namespace, 10) + "/" + name
}

func facetKey(id string, parent int, name string) string {
	return "f" + id + strconv.Itoa(parent) + "/" + name
}

func (c *cache) removalCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.removals
}

func (c *cache) object(namespace int64, name string) *Object {
	if e := c.get(objectKey(namespace, name)); e != nil {
		return e.object
	}
	return nil
}

func (c *cache) facet(id string, parent int, name string) (int, bool) {
	if e := c.get(facetKey(id, parent, name)); e != nil {
		return e.n, true
	}
	return 0, false
}

func (c *cache) get(key string) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached)
}

func (c *cache) addObject(o *Object, removals int) {
	c.add(&cached{key: objectKey(o.NamespaceID, o.Name), id: o.ID, object: o}, removals)
}

func (c *cache) addFacet(id string, parent int, name string, n, removals int) {
	c.add(&cached{key: facetKey(id, parent, name), id: id, n: n}, removals)
}

func (c *cache) add(e *cached, removals int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removals != removals {
		return
	}
	if c.entries == nil {
		c.entries = make(map[string]*list.Element)
		c.byObject = make(map[string]map[string]bool)
	}
	if old := c.entries[e.key]; old != nil {
		c.drop(old)
	}
	c.entries[e.key] = c.order.PushFront(e)
	if c.byObject[e.id] == nil {
		c.byObject[e.id] = make(map[string]bool)
	}
	c.byObject[e.id][e.key] = true
	for c.order.Len() > maxCached {
		c.drop(c.order.Back())
	}
}

// drop takes an entry out. c.mu is held.
func (c *cache) drop(el *list.Element) {
	e := c.order.Remove(el).(*cached)
	delete(c.entries, e.key)
	keys := c.byObject[e.id]
	delete(keys, e.key)
	if len(keys) == 0 {
		delete(c.byObject, e.id)
	}
}

// removeObject forgets an object and its facets.
func (c *cache) removeObject(id string) { c.forget(id, true) }

// removeFacets forgets the facets of an object; those that are left are found again.
func (c *cache) removeFacets(id string) { c.forget(id, false) }

func (c *cache) forget(id string, object bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removals++
	for key := range c.byObject[id] {
		if el := c.entries[key]; object || el.Value.(*cached).object == nil {
			c.drop(el)
		}
	}
}
