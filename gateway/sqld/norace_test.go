//go:build !race

package sqld

// Bounds on time are as they are written.
const (
	slack     = 1
	allowance = 1
)
