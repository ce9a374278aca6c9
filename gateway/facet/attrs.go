package facet

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// maxAttrDepth bounds how deep groups of attributes are taken apart; what lies deeper is shown as JSON.
const maxAttrDepth = 8

// appendAttrs writes a record's attributes as k=v, groups as group.k=v, in the order in which
// the facet gave them.
func appendAttrs(b *strings.Builder, prefix string, object json.RawMessage) {
	if len(object) == 0 {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return
		}
		name := prefix + key.(string)
		if len(value) > 0 && value[0] == '{' && strings.Count(prefix, ".") < maxAttrDepth {
			appendAttrs(b, name+".", value)
			continue
		}
		b.WriteByte(' ')
		b.WriteString(name)
		b.WriteByte('=')
		b.WriteString(attrText(value))
	}
}

// attrText shows a value as log/slog's text does: quoted only where it would be ambiguous.
func attrText(value json.RawMessage) string {
	var s string
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return string(value)
	}
	if s == "" || strings.ContainsAny(s, " =\"\n\r\t") {
		return strconv.Quote(s)
	}
	return s
}
