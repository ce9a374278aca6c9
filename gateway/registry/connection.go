package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"syscall"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// connection is the one that writes. It keeps its statements prepared: their
// texts are constants of this package, so there are only so many.
type connection struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	wal   *os.File
}

func newConnection(ctx context.Context, db *sql.DB, wal string) (*connection, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{db: db, conn: conn, stmts: make(map[string]*sql.Stmt)}
	// It exists: the journal mode was set, and the schema was read.
	if c.wal, err = os.OpenFile(wal, os.O_RDONLY, 0); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// sync makes what was committed durable. SQLite would do it itself with
// synchronous=FULL, but by fsync, which also writes the log's times and so
// commits the file system's journal: twice the time of fdatasync. The order is
// the same: the log is synced after each commit, and nothing is acknowledged before.
func (c *connection) sync() error {
	return syscall.Fdatasync(int(c.wal.Fd()))
}

func (c *connection) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.wal.Close(), c.conn.Close(), c.db.Close())...)
}

func (c *connection) prepared(query string) (*sql.Stmt, error) {
	s := c.stmts[query]
	if s == nil {
		var err error
		if s, err = c.conn.PrepareContext(context.Background(), query); err != nil {
			return nil, err
		}
		c.stmts[query] = s
	}
	return s, nil
}

// explained makes a full disk known as what the kernel calls it.
func explained(err error) error {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) && e.Code()&0xff == sqlitelib.SQLITE_FULL {
		return fmt.Errorf("%w (%w)", syscall.ENOSPC, err)
	}
	return err
}

func (c *connection) exec(query string, args ...any) error {
	_, err := c.affected(query, args...)
	return err
}

// affected tells how many rows were touched.
func (c *connection) affected(query string, args ...any) (int64, error) {
	s, err := c.prepared(query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, explained(err)
	}
	return res.RowsAffected()
}

// must is exec that gives ErrNotFound where no row was touched.
func (c *connection) must(query string, args ...any) error {
	n, err := c.affected(query, args...)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// row scans one row; no row gives ErrNotFound.
func (c *connection) row(query string, args []any, into ...any) error {
	s, err := c.prepared(query)
	if err != nil {
		return err
	}
	err = s.QueryRowContext(context.Background(), args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// rows runs f for each row, which scans it.
func (c *connection) rows(query string, args []any, f func(scan func(...any) error) error) error {
	s, err := c.prepared(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (c *connection) texts(query string, args ...any) (all []string, err error) {
	err = c.rows(query, args, func(scan func(...any) error) error {
		var s string
		if err := scan(&s); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	return all, err
}

func (c *connection) pairs(query string, args ...any) (map[string]string, error) {
	all := make(map[string]string)
	err := c.rows(query, args, func(scan func(...any) error) error {
		var k, v string
		if err := scan(&k, &v); err != nil {
			return err
		}
		all[k] = v
		return nil
	})
	return all, err
}
