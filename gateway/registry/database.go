package registry

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"

	_ "modernc.org/sqlite" // the driver "sqlite": only the gateway's own SQL goes through it
)

// migrations are applied in order, each in a transaction of its own that also
// moves PRAGMA user_version. One that was released is never edited.
var migrations = []string{
	`CREATE TABLE namespace (
		id         INTEGER PRIMARY KEY AUTOINCREMENT, -- part of each object's id, so never used twice
		name       TEXT NOT NULL UNIQUE,
		supervisor TEXT NOT NULL DEFAULT '',
		creation   TEXT NOT NULL DEFAULT 'open',
		access     TEXT NOT NULL DEFAULT 'local',
		limits     TEXT NOT NULL DEFAULT '{}',
		created_at INTEGER NOT NULL
	) STRICT;
	CREATE TABLE app (
		namespace INTEGER NOT NULL REFERENCES namespace(id) ON DELETE CASCADE,
		name      TEXT NOT NULL,
		live      INTEGER NOT NULL,
		newest    INTEGER NOT NULL,
		PRIMARY KEY (namespace, name)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE version (
		namespace  INTEGER NOT NULL,
		app        TEXT NOT NULL,
		version    INTEGER NOT NULL,
		bundle     TEXT NOT NULL,
		bytes      INTEGER NOT NULL,
		created_at INTEGER NOT NULL,
		PRIMARY KEY (namespace, app, version),
		FOREIGN KEY (namespace, app) REFERENCES app(namespace, name) ON DELETE CASCADE
	) STRICT, WITHOUT ROWID;
	CREATE TABLE app_env (
		namespace INTEGER NOT NULL,
		app       TEXT NOT NULL,
		name      TEXT NOT NULL,
		value     TEXT NOT NULL,
		PRIMARY KEY (namespace, app, name),
		FOREIGN KEY (namespace, app) REFERENCES app(namespace, name) ON DELETE CASCADE
	) STRICT, WITHOUT ROWID;
	CREATE TABLE app_secret (
		namespace INTEGER NOT NULL,
		app       TEXT NOT NULL,
		name      TEXT NOT NULL,
		value     BLOB NOT NULL,
		PRIMARY KEY (namespace, app, name),
		FOREIGN KEY (namespace, app) REFERENCES app(namespace, name) ON DELETE CASCADE
	) STRICT, WITHOUT ROWID;
	CREATE TABLE object (
		id         BLOB NOT NULL PRIMARY KEY,
		namespace  INTEGER NOT NULL REFERENCES namespace(id),
		name       BLOB NOT NULL,
		next       INTEGER NOT NULL, -- the number that its next facet gets
		created_at INTEGER NOT NULL,
		UNIQUE (namespace, name)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE facet (
		object BLOB NOT NULL REFERENCES object(id) ON DELETE CASCADE,
		n      INTEGER NOT NULL,
		parent INTEGER NOT NULL,
		name   BLOB NOT NULL,
		PRIMARY KEY (object, n),
		UNIQUE (object, parent, name)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE origin ( -- of addresses whose names do not fit into a host name
		label   TEXT NOT NULL PRIMARY KEY,
		object  BLOB NOT NULL REFERENCES object(id) ON DELETE CASCADE,
		address TEXT NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX origin_object ON origin(object);`,
	`CREATE TABLE alarm (
		object  BLOB NOT NULL REFERENCES object(id) ON DELETE CASCADE,
		n       INTEGER NOT NULL, -- the facet's number
		at      INTEGER NOT NULL, -- milliseconds, as the facet set it
		due     INTEGER NOT NULL, -- when to try next
		attempt INTEGER NOT NULL, -- failures so far
		start   BLOB,             -- how to start it where its supervisor must not be asked
		PRIMARY KEY (object, n)
	) STRICT, WITHOUT ROWID;`,
	`ALTER TABLE app ADD COLUMN canary INTEGER NOT NULL DEFAULT 0;  -- the version that some objects run, 0 for none
	ALTER TABLE app ADD COLUMN percent INTEGER NOT NULL DEFAULT 0; -- of the objects
	CREATE TABLE audit ( -- facets whose statements go into their logs
		object BLOB NOT NULL REFERENCES object(id) ON DELETE CASCADE,
		path   BLOB NOT NULL, -- names joined by NUL: a facet that is deleted and made again is still watched
		PRIMARY KEY (object, path)
	) STRICT, WITHOUT ROWID;`,
	`CREATE TABLE alarm_start ( -- how to start a facet whose supervisor must not be asked; not with the alarm's times, which change more often
		object BLOB NOT NULL REFERENCES object(id) ON DELETE CASCADE,
		n      INTEGER NOT NULL,
		hash   BLOB NOT NULL, -- SHA-256 of start
		start  BLOB NOT NULL,
		PRIMARY KEY (object, n)
	) STRICT, WITHOUT ROWID;
	INSERT INTO alarm_start SELECT object, n, x'', start FROM alarm WHERE length(start) > 0;
	ALTER TABLE alarm DROP COLUMN start;`,
	// The first program stored all ten limits with any change of a namespace. Those that have the value of its defaults
	// are taken for what nobody set, or they would go on to hold where the defaults are others: with a supervisor.
	`UPDATE namespace SET limits = (
		SELECT json_group_object(key, value) FROM json_each(limits) WHERE (key, value) NOT IN (VALUES
			('idle_timeout', '10s'), ('statement_timeout', '5s'), ('request_timeout', '1m'), ('memory', '256MiB'), ('storage', '1GiB'),
			('body', '1GiB'), ('cpu', '1'), ('processes', 64), ('in_flight', 64), ('max_objects', 10000)))
	WHERE (SELECT count(*) FROM json_each(limits)) >= 10;`,
	`CREATE TABLE leftover ( -- numbers of no facet whose databases are still to be removed
		object BLOB NOT NULL REFERENCES object(id) ON DELETE CASCADE,
		n      INTEGER NOT NULL,
		PRIMARY KEY (object, n)
	) STRICT, WITHOUT ROWID;
	ALTER TABLE namespace ADD COLUMN egress TEXT NOT NULL DEFAULT '';  -- hosts that its apps may call, parted by commas`,
}

// openDatabase opens and migrates the file; fresh tells that it was made now.
func (r *Registry) openDatabase(ctx context.Context, path string) (fresh bool, err error) {
	// It holds secrets: SQLite gives its other files the mode of this one.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	f.Close()
	// NORMAL: the writer syncs the log itself after each commit, see connection.sync.
	db, err := openPool(path, 1, "synchronous(NORMAL)", "foreign_keys(1)")
	if err != nil {
		return false, err
	}
	if fresh, err = migrate(ctx, db); err == nil {
		r.write, err = newConnection(ctx, db, path+"-wal")
	}
	if err != nil {
		db.Close()
		return false, err
	}
	if err = r.write.sync(); err == nil {
		r.read, err = openPool(path, 4, "query_only(1)")
	}
	if err == nil {
		r.findObject, err = r.read.PrepareContext(ctx, `SELECT created_at FROM object WHERE id = ?`)
	}
	if err == nil {
		r.findFacet, err = r.read.PrepareContext(ctx, `SELECT n FROM facet WHERE object = ? AND parent = ? AND name = ?`)
	}
	if err != nil {
		r.write.close()
		if r.read != nil {
			r.read.Close()
		}
	}
	return fresh, err
}

// openPool opens up to conns connections, which stay open.
func openPool(path string, conns int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_pragma": append([]string{"busy_timeout(5000)", "journal_mode(WAL)"}, pragmas...), "_txlock": {"immediate"}}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// migrate brings the schema to this program's version.
func migrate(ctx context.Context, db *sql.DB) (fresh bool, err error) {
	var version int
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return false, err
	}
	if version > len(migrations) {
		return false, fmt.Errorf("%w: registry version %d, this program knows up to %d", ErrNewer, version, len(migrations))
	}
	fresh = version == 0
	for ; version < len(migrations); version++ {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return fresh, err
		}
		_, err = tx.ExecContext(ctx, migrations[version])
		if err == nil {
			_, err = tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, version+1))
		}
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			tx.Rollback()
			return fresh, fmt.Errorf("migrate to version %d: %w", version+1, err)
		}
	}
	return fresh, nil
}
