//go:build !race

package sqld

// slack scales the bounds on time.
const slack = 1
