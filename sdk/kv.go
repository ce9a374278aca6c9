package sdk

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// Sizes of the key-value store, in bytes.
const (
	MaxKeyBytes   = 2048
	MaxValueBytes = 1 << 20
)

// kvPage is how many keys List asks for at once.
const kvPage = 256

// KV is a key-value store in the facet's own database: keys of 1 to MaxKeyBytes bytes, values of up to MaxValueBytes.
// Each call is a transaction of its own, unless it was made by Tx. Its methods may be called by many goroutines.
type KV struct{ db querier }

// querier is what KV needs of *sql.DB and *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Tx returns the store as the transaction sees it: what is put there is kept or
// undone with it.
func (kv *KV) Tx(tx *sql.Tx) *KV { return &KV{tx} }

// Get returns the value of key, or ErrNotFound.
func (kv *KV) Get(ctx context.Context, key string) ([]byte, error) {
	rows, err := kv.call(ctx, sqlchan.KVGet, []byte(key))
	if err != nil {
		return nil, fmt.Errorf("get a key: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, fmt.Errorf("get a key: %w", err)
		}
		return nil, fmt.Errorf("key %q: %w", key, ErrNotFound)
	}
	var value []byte
	if err := rows.Scan(&value); err != nil {
		return nil, fmt.Errorf("get a key: %w", err)
	}
	return value, rows.Close()
}

// Put sets the value of key. A nil value is an empty one.
func (kv *KV) Put(ctx context.Context, key string, value []byte) error {
	if value == nil {
		value = []byte{}
	}
	return kv.run(ctx, "put a key", sqlchan.KVPut, []byte(key), value)
}

// Delete removes key. That there is none is no error.
func (kv *KV) Delete(ctx context.Context, key string) error {
	return kv.run(ctx, "delete a key", sqlchan.KVDelete, []byte(key))
}

// List gives the keys that begin with prefix and their values, in order of the keys' bytes. It reads in pages of
// some hundred, each as it is then. A failure ends the loop early: it is stored in *failure where a pointer is
// given, and otherwise a panic, since a loop that silently saw half of the keys would be worse.
//
//	var err error
//	for key, value := range f.KV().List(ctx, "user/", &err) { … }
func (kv *KV) List(ctx context.Context, prefix string, failure ...*error) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		err := kv.list(ctx, []byte(prefix), yield)
		if len(failure) > 0 {
			*failure[0] = err
		} else if err != nil {
			panic(err)
		}
	}
}

func (kv *KV) list(ctx context.Context, prefix []byte, yield func(string, []byte) bool) error {
	after := []byte{}
	for {
		keys, values, err := kv.page(ctx, prefix, after)
		if err != nil {
			return fmt.Errorf("list keys: %w", err)
		}
		for i, key := range keys {
			if !yield(string(key), values[i]) {
				return nil
			}
		}
		if len(keys) < kvPage {
			return nil
		}
		after = keys[len(keys)-1]
	}
}

func (kv *KV) page(ctx context.Context, prefix, after []byte) (keys, values [][]byte, err error) {
	rows, err := kv.call(ctx, sqlchan.KVList, prefix, after, int64(kvPage))
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key, value []byte
		if err := rows.Scan(&key, &value); err != nil {
			return nil, nil, err
		}
		keys, values = append(keys, key), append(values, value)
	}
	return keys, values, errors.Join(rows.Err(), rows.Close())
}

func (kv *KV) run(ctx context.Context, what string, number int, args ...any) error {
	rows, err := kv.call(ctx, number, args...)
	if err == nil {
		for rows.Next() {
		}
		err = errors.Join(rows.Err(), rows.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// call runs a built-in statement through database/sql, so that it takes part in transactions: the
// driver knows it by the type of its argument, which no one else can make.
func (kv *KV) call(ctx context.Context, number int, args ...any) (*sql.Rows, error) {
	return kv.db.QueryContext(ctx, "", &builtin{number, args})
}

// builtin is a statement of the worker's own (sqlchan's SPEC §5).
type builtin struct {
	number int
	args   []any
}
