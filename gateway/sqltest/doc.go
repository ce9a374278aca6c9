// Package sqltest holds the tests of the SDK's database together with the real SQL worker. They stand here
// because package sdk imports nothing of the gateway, not even in its tests.
package sqltest
