//go:build !race

package sqld

// Bounds on time tell what is bounded from what is not: a machine that runs tests does other things as well.
const (
	slack     = 5
	allowance = 1
)
