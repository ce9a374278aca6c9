// Package boot holds what makes a facet: what the gateway says at start, or what stands in for it where there is
// no gateway. It is internal, so that package sdk can offer a constructor that only the SDK's own packages can call.
package boot

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// Config is what a facet is made of.
type Config struct {
	Start *wire.Start
	// SQL is the channel to the database; nil where the facet has none.
	SQL *client.Client
	// Log takes structured records.
	Log slog.Handler
	// Now is the clock.
	Now func() time.Time
	// Lookup finds a setting that Start does not hold; nil finds none. It is
	// how an app outside a gateway reads its process's environment.
	Lookup func(name string) (string, bool)
}

// Instance is an app that runs.
type Instance struct {
	Handler http.Handler
	// Stop runs what the app wants done before it stops.
	Stop func(context.Context)
	// RingDue calls the app's alarm function if its alarm is due by the clock, and tells whether it was. It is nil
	// where the app has given none.
	RingDue func(context.Context) (bool, error)
}
