package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// data answers what has to do with the facet's database.
type data struct {
	db   *sql.DB
	once sync.Once
	err  error // of making the table
}

func (d *data) table() error {
	d.once.Do(func() { d.err = makeTable(context.Background(), d.db) })
	return d.err
}

// increment adds one in a transaction of its own and tells the result.
func (d *data) increment(w http.ResponseWriter, r *http.Request) {
	n, err := d.add(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, n)
}

func (d *data) add(ctx context.Context) (n int64, err error) {
	if err := d.table(); err != nil {
		return 0, err
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, `UPDATE counter SET n = n + 1 WHERE id = 1 RETURNING n`).Scan(&n); err != nil {
		return 0, err
	}
	return n, tx.Commit()
}

// reads times reads by primary key, n for each of some callers at once, and tells the microseconds that one
// took: the whole time divided by all reads.
func (d *data) reads(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	callers, _ := strconv.Atoi(r.FormValue("callers"))
	err := d.table()
	if err != nil || n < 1 || callers < 1 {
		http.Error(w, fmt.Sprint("n and callers are missing, or there is no table: ", err), http.StatusInternalServerError)
		return
	}
	stmt, err := d.db.PrepareContext(r.Context(), `SELECT n FROM counter WHERE id = ?`)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer stmt.Close()
	errs := make(chan error, callers)
	began := time.Now()
	for range callers {
		go func() {
			var got int64
			var err error
			for i := 0; i < n && err == nil; i++ {
				err = stmt.QueryRowContext(r.Context(), 1).Scan(&got)
			}
			errs <- err
		}()
	}
	for range callers {
		if e := <-errs; e != nil {
			err = e
		}
	}
	took := time.Since(began)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "%.3f\n", float64(took.Nanoseconds())/1000/float64(n*callers))
}
