//go:build !amd64

package sandboxd

const isAMD64 = false
