//go:build race

package sqld

// With the race detector everything takes many times as long: slack scales bounds on how long something
// takes, allowance the time that statements are given.
const (
	slack     = 40
	allowance = 8
)
