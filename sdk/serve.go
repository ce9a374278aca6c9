package sdk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/facetgateway/fgw/sdk/internal/boot"
	"github.com/facetgateway/fgw/sdk/wire"
)

// StartFunc makes an instance of an app. It runs once per instance, before the first request; an error or a
// panic is what the caller of that request is told. The context ends when the instance stops.
type StartFunc = func(ctx context.Context, f *Facet) (http.Handler, error)

// Serve runs the app. It is the whole of an app's main and never returns.
//
// Inside a gateway it serves the requests that the gateway sends. Started on its own it
// serves on http://127.0.0.1:8080, or the next port that is free, or where FGW_LISTEN ("host:port") or PORT say;
// its database is .fgw/dev.db beside the source, in the care of the program fgw, which is found as $FGW or on the PATH.
func Serve(start StartFunc) {
	if os.Getenv(wire.EnvWire) == "1" {
		os.Exit(serveInherited(start))
	}
	_, source, _, _ := runtime.Caller(1)
	os.Exit(serveAlone(start, source))
}

// codeStart is the code of an app that gave no handler.
const codeStart = "facet_crashed"

// runStart calls start and turns a panic into an error.
func runStart(ctx context.Context, f *Facet, start StartFunc) (h http.Handler, failed *FacetError) {
	defer func() {
		if p := recover(); p != nil {
			h, failed = nil, &FacetError{Code: codeStart, Message: fmt.Sprintf("panic: %v", p), Stack: string(debug.Stack())}
		}
	}()
	h, err := start(ctx, f)
	if err == nil && h == nil {
		err = errors.New("start returned neither a handler nor an error")
	}
	if err != nil {
		return nil, &FacetError{Code: codeStart, Message: err.Error()}
	}
	return h, nil
}

// Boot starts an app outside a gateway, for the SDK's own packages: nobody else can make a Config. The error is
// a *FacetError, with the stack of a panic.
func Boot(ctx context.Context, c boot.Config, start StartFunc) (*Facet, boot.Instance, error) {
	f := newFacet(c)
	h, failed := runStart(ctx, f, start)
	if failed != nil {
		return f, boot.Instance{}, failed
	}
	in := boot.Instance{Handler: newFront(f, h), Stop: f.stop}
	if f.ring != nil {
		in.RingDue = f.ringDue
	}
	return f, in, nil
}
