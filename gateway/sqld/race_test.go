//go:build race

package sqld

// slack scales the bounds on time: with the race detector everything takes several times as long.
const slack = 10
