//go:build !race

package sqlpool

// slack scales the bounds on time.
const slack = 1
