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

// addOne reads, writes and, where it is not in a transaction, commits.
const addOne = `UPDATE counter SET n = n + 1 WHERE id = 1 RETURNING n`

// increment adds one and tells the result.
func (d *data) increment(w http.ResponseWriter, r *http.Request) {
	var n int64
	err := d.table()
	if err == nil {
		err = d.db.QueryRowContext(r.Context(), addOne).Scan(&n)
	}
	tell(w, n, err)
}

// transaction does the same in a transaction that it begins and commits.
func (d *data) transaction(w http.ResponseWriter, r *http.Request) {
	n, err := d.transact(r.Context())
	tell(w, n, err)
}

func (d *data) transact(ctx context.Context) (n int64, err error) {
	if err := d.table(); err != nil {
		return 0, err
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, addOne).Scan(&n); err != nil {
		return 0, err
	}
	return n, tx.Commit()
}

func tell(w http.ResponseWriter, n int64, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, n)
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
