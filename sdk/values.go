package sdk

import (
	"database/sql/driver"
	"strings"
	"time"
)

// timeLayout is how a time is stored: text that SQLite's date functions read, and that sorts as the times do, since
// it is always in UTC. Other SQLite drivers use the same layout.
const timeLayout = "2006-01-02 15:04:05.999999999-07:00"

// timeLayouts are the texts that are read as times, the usual ones first.
var timeLayouts = [...]string{
	timeLayout,
	"2006-01-02T15:04:05.999999999-07:00",
	"2006-01-02 15:04:05.999999999",
	"2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04",
	"2006-01-02T15:04",
	"2006-01-02",
}

// CheckNamedValue turns an argument into what the channel carries: nil, int64, float64, string or []byte.
func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	switch x := v.Value.(type) {
	case nil, int64, float64, string, []byte, *builtin:
		return nil
	case int:
		v.Value = int64(x)
		return nil
	case bool:
		v.Value = boolean(x)
		return nil
	case time.Time:
		v.Value = timeText(x)
		return nil
	}
	plain, err := driver.DefaultParameterConverter.ConvertValue(v.Value) // valuers, pointers, named types
	if err != nil {
		return err
	}
	switch x := plain.(type) {
	case bool:
		plain = boolean(x)
	case time.Time:
		plain = timeText(x)
	}
	v.Value = plain
	return nil
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func timeText(t time.Time) string { return t.UTC().Format(timeLayout) }

// isTime tells whether a column of that declared type holds times.
func isTime(decl string) bool {
	if len(decl) < len("DATE") || decl[0]|0x20 != 'd' && decl[0]|0x20 != 't' {
		return false
	}
	switch typeName(decl) {
	case "DATE", "DATETIME", "TIMESTAMP":
		return true
	}
	return false
}

// asTime reads the value of a column that holds times: text in one of the usual layouts, or
// a number of seconds (past 1e12, of milliseconds) since 1970. What is no time stays as it is.
func asTime(v any) any {
	switch x := v.(type) {
	case string:
		text := strings.TrimSuffix(x, "Z")
		for _, layout := range timeLayouts {
			if t, err := time.ParseInLocation(layout, text, time.UTC); err == nil {
				return t.UTC()
			}
		}
	case int64:
		if x > 1e12 || x < -1e12 {
			return time.UnixMilli(x).UTC()
		}
		return time.Unix(x, 0).UTC()
	}
	return v
}
