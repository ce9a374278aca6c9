// Package address is the way in which people, scripts and the gateway's own
// files name a facet: NAMESPACE/OBJECT/FACET/CHILD…, each part percent-encoded.
package address

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxFacets is how many facet names an address may hold: a tree is four deep
// with its root, and the root has no name.
const MaxFacets = 3

// ErrBadName is wrapped by every error of this package.
var ErrBadName = errors.New("bad name")

// Address names a namespace, an object, or a facet of one. The zero Address is
// the prefix of all. Parts are bytes, not encoded.
type Address struct {
	Namespace string
	Object    string
	// Facets is the path below the object's root facet.
	Facets []string
	// Root tells the root facet itself (NAMESPACE/OBJECT/) from the object
	// (NAMESPACE/OBJECT), which as a prefix covers all its facets. It is set
	// only while Facets is empty.
	Root bool
}

// Parse reads an address or a prefix of one. Bytes that String would encode are
// taken as they are, so that a person may type them; a percent sign must begin
// two hexadecimal digits.
func Parse(s string) (Address, error) {
	var a Address
	if s == "" {
		return a, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) > 2+MaxFacets {
		return a, fmt.Errorf("address with %d parts (at most %d): %w", len(parts), 2+MaxFacets, ErrBadName)
	}
	a.Namespace = parts[0]
	if err := CheckName(a.Namespace); err != nil {
		return Address{}, err
	}
	for i, p := range parts[1:] {
		if i == 1 && p == "" && len(parts) == 3 {
			a.Root = true
			break
		}
		name, err := Decode(p)
		if err == nil {
			err = CheckPart(name)
		}
		if err != nil {
			return Address{}, err
		}
		if i == 0 {
			a.Object = name
		} else {
			a.Facets = append(a.Facets, name)
		}
	}
	return a, nil
}

// String encodes the address; Parse gives it back.
func (a Address) String() string {
	if a.Namespace == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(a.Namespace)
	if a.Object == "" {
		return b.String()
	}
	b.WriteByte('/')
	b.WriteString(Encode(a.Object))
	if len(a.Facets) == 0 && a.Root {
		b.WriteByte('/')
	}
	for _, f := range a.Facets {
		b.WriteByte('/')
		b.WriteString(Encode(f))
	}
	return b.String()
}

// IsFacet tells whether the address names one facet, the root included, and not
// an object, a namespace or everything.
func (a Address) IsFacet() bool { return a.Root || len(a.Facets) > 0 }

// Facet is the last part of a facet's name: empty for the root.
func (a Address) Facet() string {
	if len(a.Facets) == 0 {
		return ""
	}
	return a.Facets[len(a.Facets)-1]
}

// Child is the address of a facet directly below a.
func (a Address) Child(name string) Address {
	a.Facets = append(slices.Clip(a.Facets), name)
	a.Root = false
	return a
}

// Contains tells whether b lies at or below a: a namespace contains its
// objects, an object its facets, a facet its descendants. The root facet
// contains itself alone: to name the whole tree, name the object.
func (a Address) Contains(b Address) bool {
	switch {
	case a.Namespace == "":
		return true
	case a.Namespace != b.Namespace:
		return false
	case a.Object == "":
		return true
	case a.Object != b.Object:
		return false
	case a.Root:
		return b.Root
	}
	return len(a.Facets) <= len(b.Facets) && slices.Equal(a.Facets, b.Facets[:len(a.Facets)])
}

// Equal tells whether both name the same thing.
func (a Address) Equal(b Address) bool {
	return a.Namespace == b.Namespace && a.Object == b.Object && a.Root == b.Root && slices.Equal(a.Facets, b.Facets)
}
