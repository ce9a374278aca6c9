package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// RememberOrigin keeps the address that a host label stands for, where the
// label is a hash since the names do not fit. It lasts as long as the object.
func (r *Registry) RememberOrigin(ctx context.Context, label string, o *Object, address string) error {
	known, err := r.Origin(ctx, label)
	if err == nil && known == address {
		return nil
	}
	return r.do(ctx, func(c *change) error {
		return c.exec(`INSERT OR REPLACE INTO origin (label, object, address) VALUES (?, ?, ?)`, label, o.key(), address)
	})
}

// Origin gives the address that a host label stands for.
func (r *Registry) Origin(ctx context.Context, label string) (address string, err error) {
	err = r.read.QueryRowContext(ctx, `SELECT address FROM origin WHERE label = ?`, label).Scan(&address)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("origin %q %w", label, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("origin: %w", err)
	}
	return address, nil
}
