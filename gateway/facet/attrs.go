package facet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/sdk/wire"
)

// maxAttrDepth bounds how deep groups of attributes are taken apart; what lies deeper is shown as JSON.
const maxAttrDepth = 8

// maxAttrGroups bounds how many groups are taken apart, since one that holds nothing costs work and adds no text.
const maxAttrGroups = 256

// maxRecordText is how much of a record's text is kept: what a line of the log holds, with room to say that it was cut.
const maxRecordText = logs.MaxLine - 128

// logLine writes a record of size bytes as people read it: level, message, attributes as k=v.
func logLine(r *wire.LogRecord, size int) string {
	var t recordText
	if r.Level != "" && r.Level != "INFO" {
		t.add(r.Level, " ")
	}
	t.add(r.Message)
	t.addAttrs(nil, 0, r.Attrs)
	if !t.cut {
		return string(t.b)
	}
	return fmt.Sprintf("%s … (cut: the record has %d bytes, the first %d of its text are kept)", t.b, size, len(t.b))
}

// recordText is the text of a record. It takes no more once it was cut: a group's name stands before each of its
// attributes, so that the text of a small record can be thousands of times as long.
type recordText struct {
	b      []byte
	groups int
	cut    bool
}

func (t *recordText) add(parts ...string) {
	for _, s := range parts {
		if t.cut {
			return
		}
		if left := maxRecordText - len(t.b); len(s) > left {
			for left > 0 && !utf8.RuneStart(s[left]) { // not in the middle of a character
				left--
			}
			s, t.cut = s[:left], true
		}
		t.b = append(t.b, s...)
	}
}

// addAttrs writes a record's attributes as k=v, groups as group.k=v, in the order in which
// the facet gave them. All depths share the memory of prefix: a group must not cost a copy of the names
// around it.
func (t *recordText) addAttrs(prefix []byte, depth int, object json.RawMessage) {
	if len(object) == 0 {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return
	}
	for !t.cut && dec.More() {
		key, err := dec.Token()
		if err != nil {
			return
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return
		}
		if len(value) > 0 && value[0] == '{' && depth < maxAttrDepth {
			if t.groups++; t.groups > maxAttrGroups {
				t.cut = true
				return
			}
			t.addAttrs(append(append(prefix, key.(string)...), '.'), depth+1, value)
			continue
		}
		t.add(" ", string(prefix), key.(string), "=", attrText(value))
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
