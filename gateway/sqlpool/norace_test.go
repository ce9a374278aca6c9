//go:build !race

package sqlpool

// slack scales the bounds on time, which tell what is bounded from what is not: a machine that runs tests does other things as well.
const slack = 5
