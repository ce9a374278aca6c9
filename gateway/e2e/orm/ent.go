package main

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"

	"github.com/facetgateway/fgw/sdk"
)

// tables are what ent's generator would make of a schema with an edge; after is how it looks a version later.
func tables(after bool) []*schema.Table {
	users := schema.NewTable("users").
		AddPrimary(&schema.Column{Name: "id", Type: field.TypeInt, Increment: true}).
		AddColumn(&schema.Column{Name: "name", Type: field.TypeString, Unique: true}).
		AddColumn(&schema.Column{Name: "created_at", Type: field.TypeTime})
	pets := schema.NewTable("pets").
		AddPrimary(&schema.Column{Name: "id", Type: field.TypeInt, Increment: true}).
		AddColumn(&schema.Column{Name: "name", Type: field.TypeString})
	owner := &schema.Column{Name: "owner_id", Type: field.TypeInt, Nullable: true}
	pets.AddColumn(owner)
	pets.AddForeignKey(&schema.ForeignKey{Symbol: "pets_users_pets", Columns: []*schema.Column{owner}, RefTable: users, RefColumns: users.PrimaryKey, OnDelete: schema.SetNull})
	if after {
		users.AddColumn(&schema.Column{Name: "age", Type: field.TypeInt, Default: 0})
		pets.AddIndex("pets_name", false, []string{"name"})
	}
	return []*schema.Table{users, pets}
}

func runEnt(ctx context.Context, f *sdk.Facet) error {
	// Ent insists on foreign keys being enforced, which other drivers are told with _fk=1: a setting of the
	// connection, so there may be one only.
	f.DB().SetMaxOpenConns(1)
	if _, err := f.DB().ExecContext(ctx, "PRAGMA foreign_keys = ON"); err != nil {
		return err
	}
	drv := entsql.OpenDB(dialect.SQLite, f.DB())
	for i, after := range []bool{false, false, true, true} {
		m, err := schema.NewMigrate(drv, schema.WithForeignKeys(true))
		if err != nil {
			return err
		}
		if err := m.Create(ctx, tables(after)...); err != nil {
			return fmt.Errorf("migration %d: %w", i, err)
		}
	}
	tx, err := drv.Tx(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	build := entsql.Dialect(dialect.SQLite)
	query, args := build.Insert("users").Columns("name", "created_at", "age").Values("Ada", "2026-01-02 03:04:05", 36).Returning("id").Query()
	var rows entsql.Rows
	if err := tx.Query(ctx, query, args, &rows); err != nil {
		return err
	}
	id, err := entsql.ScanInt64(rows)
	if err := errors.Join(err, rows.Close()); err != nil {
		return err
	}
	query, args = build.Insert("pets").Columns("name", "owner_id").Values("Pedro", id).Query()
	if err := tx.Exec(ctx, query, args, nil); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	u, p := build.Table("users"), build.Table("pets")
	query, args = build.Select(p.C("name")).From(p).Join(u).On(p.C("owner_id"), u.C("id")).Where(entsql.GT(u.C("age"), 30)).Query()
	if err := drv.Query(ctx, query, args, &rows); err != nil {
		return err
	}
	name, err := entsql.ScanString(rows)
	if err := errors.Join(err, rows.Close(), differ("the pet", name, "Pedro")); err != nil {
		return err
	}
	if err := drv.Exec(ctx, "DELETE FROM users", []any{}, nil); err != nil {
		return err
	}
	var orphans int
	err = f.DB().QueryRowContext(ctx, `SELECT count(*) FROM pets WHERE owner_id IS NULL`).Scan(&orphans)
	if err := errors.Join(err, differ("pets without an owner", orphans, 1)); err != nil {
		return err
	}
	return drv.Exec(ctx, "DELETE FROM pets", []any{}, nil)
}
