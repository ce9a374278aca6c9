package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/facetgateway/fgw/sdk"
)

// author and book are models with an association each way, times, blobs and soft deletion.
type author struct {
	gorm.Model
	Name  string `gorm:"uniqueIndex;not null"`
	Photo []byte
	Born  *time.Time
	Books []book
}

type book struct {
	ID       uint
	AuthorID uint `gorm:"index"`
	Title    string
	Price    float64
	Tags     []tag `gorm:"many2many:book_tags"`
}

type tag struct {
	ID   uint
	Name string `gorm:"uniqueIndex"`
}

var errUndo = errors.New("undone on purpose")

func runGorm(ctx context.Context, f *sdk.Facet) error {
	db, err := gorm.Open(sqlite.Dialector{Conn: f.DB()}, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	db = db.WithContext(ctx)
	for round := range 2 {
		if err := db.AutoMigrate(&author{}, &book{}, &tag{}); err != nil {
			return fmt.Errorf("migrate, round %d: %w", round, err)
		}
	}
	if !db.Migrator().HasTable(&author{}) || !db.Migrator().HasColumn(&author{}, "Photo") || !db.Migrator().HasIndex(&author{}, "Name") {
		return errors.New("the migrator does not see what it made")
	}
	for _, step := range []struct {
		name string
		do   func(*gorm.DB) error
	}{{"associations", associate}, {"nested transactions", nest}, {"soft deletion and batches", remove}} {
		if err := step.do(db); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func associate(db *gorm.DB) error {
	born := time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC)
	a := author{Name: "Ada", Photo: []byte{0, 1, 2}, Born: &born, Books: []book{
		{Title: "Notes", Price: 1.5, Tags: []tag{{Name: "engine"}, {Name: "number"}}}, {Title: "Letters"}}}
	if err := db.Create(&a).Error; err != nil {
		return err
	}
	var got author
	if err := db.Preload("Books.Tags").First(&got, "name = ?", "Ada").Error; err != nil {
		return err
	}
	if len(got.Books) != 2 || len(got.Books[0].Tags)+len(got.Books[1].Tags) != 2 || len(got.Photo) != 3 || got.Born == nil || !got.Born.Equal(born) || got.CreatedAt.IsZero() {
		return fmt.Errorf("it came back as %+v", got)
	}
	if err := db.Model(&got).Association("Books").Append(&book{Title: "More"}); err != nil {
		return err
	}
	var joined int64
	err := db.Model(&book{}).Joins("JOIN authors ON authors.id = books.author_id").Where("authors.name = ?", "Ada").Count(&joined).Error
	if err := errors.Join(err, differ("books joined", joined, 3)); err != nil {
		return err
	}
	if err := db.Create(&author{Name: "Ada"}).Error; err == nil {
		return errors.New("a unique name was given twice")
	}
	return nil
}

// nest undoes an inner transaction, which gorm makes of savepoints, and keeps the outer one.
func nest(db *gorm.DB) error {
	err := db.Transaction(func(outer *gorm.DB) error {
		if err := outer.Create(&author{Name: "kept"}).Error; err != nil {
			return err
		}
		inner := outer.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&author{Name: "lost"}).Error; err != nil {
				return err
			}
			return errUndo
		})
		if !errors.Is(inner, errUndo) {
			return fmt.Errorf("the inner one ended with %w", inner)
		}
		if err := outer.SavePoint("here").Error; err != nil {
			return err
		}
		if err := outer.Create(&author{Name: "lost too"}).Error; err != nil {
			return err
		}
		if err := outer.RollbackTo("here").Error; err != nil {
			return err
		}
		return outer.Transaction(func(tx *gorm.DB) error { return tx.Create(&author{Name: "kept too"}).Error })
	})
	if err != nil {
		return err
	}
	var names []string
	err = db.Model(&author{}).Where("name LIKE ? OR name LIKE ?", "kept%", "lost%").Order("name").Pluck("name", &names).Error
	return errors.Join(err, differ("what is left", fmt.Sprint(names), "[kept kept too]"))
}

func remove(db *gorm.DB) error {
	var many []book
	for i := range 500 {
		many = append(many, book{Title: fmt.Sprint("volume ", i), Price: float64(i)})
	}
	if err := db.CreateInBatches(many, 100).Error; err != nil {
		return err
	}
	if err := db.Where("title LIKE ?", "volume %").Delete(&book{}).Error; err != nil {
		return err
	}
	if err := db.Delete(&author{}, "name = ?", "kept").Error; err != nil {
		return err
	}
	var seen, all int64
	err := errors.Join(db.Model(&author{}).Where("name = 'kept'").Count(&seen).Error, db.Unscoped().Model(&author{}).Where("name = 'kept'").Count(&all).Error)
	return errors.Join(err, differ("seen after a soft deletion", seen, 0), differ("still there", all, 1))
}
