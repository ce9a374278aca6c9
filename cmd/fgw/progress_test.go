package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
)

// A spinner turns while it is wanted, and draws nothing over what comes after it.
func TestSpinnerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		c := cli.NewContext(&cli.App{ErrWriter: &screen}, nil, nil)
		m := spin(progressbar.NewOptions(-1, barOptions(c, "building")...))
		defer m.bar.Finish()
		time.Sleep(time.Second)
		m.done()
		if turns := strings.Count(screen.String(), "building"); turns < 5 {
			t.Errorf("it turned %d times in a second", turns)
		}
		drawn := screen.Len()
		time.Sleep(time.Second)
		synctest.Wait()
		if screen.Len() != drawn {
			t.Errorf("after its end it drew %q", screen.Bytes()[drawn:])
		}
	})
}
