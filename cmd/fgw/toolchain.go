package main

import (
	"os"

	"github.com/facetgateway/fgw/gateway/build"
	"github.com/facetgateway/fgw/sandboxd"
)

// gorootVariable names the root of the Go toolchain that builds sources; without it the `go` of the PATH says where it lies.
const gorootVariable = "FGW_GOROOT"

// toolchainLayer says whether there is a Go toolchain for sources that arrive at run time.
func toolchainLayer() sandboxd.Layer {
	l := sandboxd.Layer{Layer: "toolchain"}
	root, version, err := build.FindToolchain(os.Getenv(gorootVariable))
	if err != nil {
		l.Detail = err.Error()
		l.Mend = "install Go from https://go.dev/dl and put its go command on the PATH of `fgw serve`, or name its root in " + gorootVariable + "; without it facets run from executables alone"
		return l
	}
	l.Active, l.Detail = true, version+" in "+root
	return l
}
