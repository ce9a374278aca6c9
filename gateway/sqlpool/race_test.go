//go:build race

package sqlpool

// slack scales the bounds on time: with the race detector everything takes many times as long.
const slack = 20
