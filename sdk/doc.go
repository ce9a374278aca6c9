// Package sdk is what an app for the facet gateway imports. An app is a function that is given its
// Facet (identity, database, settings) and returns an ordinary http.Handler:
//
//	func main() { sdk.Serve(start) }
//
//	func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
//		_, err := f.DB().ExecContext(ctx, `CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)`)
//		if err != nil {
//			return nil, err
//		}
//		mux := http.NewServeMux()
//		mux.HandleFunc("GET /{$}", …)
//		return mux, nil
//	}
//
// Inside a gateway the app runs confined: no files, no network, no other process, its own SQLite database by
// way of database/sql, at most one instance at a time. Started on its own (go run .), the same program serves on a
// local port, with a database file beside the source.
//
// One instance serves all requests of its facet, concurrently: what handlers share needs a lock, what must outlive the
// instance belongs into the database. An instance may be stopped whenever it is idle.
package sdk
