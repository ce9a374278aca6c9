package admin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// value is a SQL value in JSON, its type kept: NULL is null, an INTEGER a
// number without and a REAL one with a point or an exponent, a TEXT a string, a
// BLOB {"base64":…}. What JSON cannot say is an object too: {"real":"+Inf"} and,
// for a TEXT that is not UTF-8, {"text":base64}.
type value struct{ v any }

type valueObject struct {
	Base64 *[]byte `json:"base64,omitempty"`
	Text   *[]byte `json:"text,omitempty"`
	Real   string  `json:"real,omitempty"`
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return fmt.Appendf(b, `{"real":"%v"}`, v)
		}
		start := len(b)
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
		if !bytes.ContainsAny(b[start:], ".e") {
			b = append(b, ".0"...)
		}
		return b
	case string:
		if !utf8.ValidString(v) {
			b = append(b, `{"text":"`...)
			b = base64.StdEncoding.AppendEncode(b, []byte(v))
			return append(b, `"}`...)
		}
		s, _ := json.Marshal(v)
		return append(b, s...)
	case []byte:
		b = append(b, `{"base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, v)
		return append(b, `"}`...)
	}
	return append(b, "null"...)
}

// MarshalJSON writes the value.
func (v value) MarshalJSON() ([]byte, error) { return appendValue(nil, v.v), nil }

var errBadValue = errors.New("no SQL value")

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *value) UnmarshalJSON(b []byte) (err error) {
	if len(b) == 0 {
		return errBadValue
	}
	switch c := b[0]; {
	case c == 'n':
		v.v = nil
		return nil
	case c == '"':
		var s string
		err = json.Unmarshal(b, &s)
		v.v = s
		return err
	case c == '{':
		return v.object(b)
	case bytes.ContainsAny(b, ".eE"):
		v.v, err = strconv.ParseFloat(string(b), 64)
	default:
		v.v, err = strconv.ParseInt(string(b), 10, 64)
	}
	if err != nil {
		return errBadValue
	}
	return nil
}

func (v *value) object(b []byte) error {
	var o valueObject
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	switch {
	case o.Base64 != nil:
		v.v = *o.Base64
	case o.Text != nil:
		v.v = string(*o.Text)
	default:
		f, err := strconv.ParseFloat(o.Real, 64)
		if err != nil {
			return errBadValue
		}
		v.v = f
	}
	return nil
}
