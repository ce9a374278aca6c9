// Package origin names the web origin of a facet: the first label of its host.
// Each app has an origin of its own, so that pages of different apps share
// neither cookies nor storage.
package origin

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/facetgateway/fgw/gateway/address"
)

// maxLabel is the length of a DNS label (RFC 1035 §2.3.4).
const maxLabel = 63

// HashPrefix begins the labels of origins whose names do not fit in one. No namespace or
// app is called h- , since names hold no "--" and end in no "-".
const HashPrefix = "h--"

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// hashLabel names an origin by the hash of what it names: 160 bits in 32 characters.
func hashLabel(namespace, object, facet string) string {
	sum := sha256.Sum256([]byte(namespace + "\x00" + object + "\x00" + facet))
	return HashPrefix + base32Lower.EncodeToString(sum[:20])
}

// Label is the first label of a facet's host. facet is empty for a supervisor's.
func Label(namespace, object, facet string) string {
	parts := []string{object, namespace}
	if facet != "" {
		parts = []string{facet, object, namespace}
	}
	for _, p := range parts {
		if address.CheckName(p) != nil {
			return hashLabel(namespace, object, facet)
		}
	}
	label := strings.Join(parts, "--")
	if len(label) > maxLabel || strings.HasPrefix(label, HashPrefix) {
		return hashLabel(namespace, object, facet)
	}
	return label
}

// Parse takes a label that is no hash apart: FACET--OBJECT--NAMESPACE or OBJECT--NAMESPACE.
func Parse(label string) (namespace, object, facet string, ok bool) {
	parts := strings.Split(label, "--")
	for _, p := range parts {
		if address.CheckName(p) != nil {
			return "", "", "", false
		}
	}
	switch {
	case strings.HasPrefix(label, HashPrefix):
		return "", "", "", false
	case len(parts) == 2:
		return parts[1], parts[0], "", true
	case len(parts) == 3:
		return parts[2], parts[1], parts[0], true
	}
	return "", "", "", false
}
