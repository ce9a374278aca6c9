package sqltest

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/facetgateway/fgw/gateway/sqld"
	"github.com/facetgateway/fgw/sdk"
	"github.com/facetgateway/fgw/sdk/facettest"
)

// The test's own binary is the program fgw, as far as the SDK needs one. The race detector checks pointers in a way that
// the SQL engine, translated from C, does not survive: where it is built in (raced), the worker is the fgw that $FGW names.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "sqld" {
		file := os.Args[len(os.Args)-1]
		if file == "--memory" {
			file = ""
		}
		if err := sqld.ServeOne(context.Background(), os.NewFile(3, "channel"), file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	switch {
	case !raced:
		os.Setenv("FGW", os.Args[0])
	case os.Getenv("FGW") == "":
		fmt.Println("skipped: under the race detector these tests need FGW=/path/to/fgw")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func noHandler(context.Context, *sdk.Facet) (http.Handler, error) { return http.NotFoundHandler(), nil }

// newFacet returns a facet with an empty database.
func newFacet(t testing.TB) *sdk.Facet {
	t.Helper()
	return facettest.New(t, noHandler).Facet
}

func newDB(t testing.TB, schema string) *sql.DB {
	t.Helper()
	db := newFacet(t).DB()
	mustExec(t, db, schema)
	return db
}

func mustExec(t testing.TB, db *sql.DB, query string, args ...any) sql.Result {
	t.Helper()
	r, err := db.ExecContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return r
}
