package sqld

import (
	"strconv"
	"time"
)

// start is what the worker's monotonic clock counts from.
var start = time.Now()

// now is the monotonic clock in nanoseconds.
func now() int64 { return int64(time.Since(start)) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
