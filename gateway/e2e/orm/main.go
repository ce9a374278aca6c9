// Command orm is an app that brings the libraries with which Go programs commonly
// use a database, unmodified, into a confined facet. Each handler runs one
// library through what it is used for and answers "ok", or says what failed.
package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/facetgateway/fgw/sdk"
)

func main() { sdk.Serve(start) }

func start(_ context.Context, f *sdk.Facet) (http.Handler, error) {
	mux := http.NewServeMux()
	for name, run := range map[string]func(context.Context, *sdk.Facet) error{
		"goose": runGoose, "gorm": runGorm, "sqlx": runSqlx, "ent": runEnt,
	} {
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) {
			if err := run(r.Context(), f); err != nil {
				http.Error(w, err.Error(), http.StatusUnprocessableEntity)
				return
			}
			fmt.Fprint(w, "ok")
		})
	}
	return mux, nil
}

// differ makes an error where got is not want.
func differ[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: %v, wanted %v", what, got, want)
	}
	return nil
}
