package main

import (
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
)

// meter shows that something goes on, and how far, to a person at a terminal.
// A nil meter shows nothing.
type meter struct {
	bar  *progressbar.ProgressBar
	stop func()
}

// progress shows a spinner beside the text.
func progress(c *cli.Context, text string) *meter {
	if !isTerminal(c.App.ErrWriter) {
		return nil
	}
	return spin(progressbar.NewOptions(-1, barOptions(c, text)...))
}

// spin turns a spinner until the meter is done. The library's own clock (see barOptions) could not be stopped: it would go on
// drawing over whatever comes next.
func spin(bar *progressbar.ProgressBar) *meter {
	m := &meter{bar: bar}
	ended, ticking := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ticking)
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-tick.C:
				m.bar.Add(1)
			case <-ended:
				tick.Stop()
				return
			}
		}
	}()
	m.stop = sync.OnceFunc(func() { close(ended); <-ticking })
	return m
}

// progressOf shows how many of total bytes are done.
func progressOf(c *cli.Context, text string, total int64) *meter {
	if !isTerminal(c.App.ErrWriter) {
		return nil
	}
	return &meter{bar: progressbar.NewOptions64(total, append(barOptions(c, text), progressbar.OptionShowBytes(true))...), stop: func() {}}
}

func barOptions(c *cli.Context, text string) []progressbar.Option {
	return []progressbar.Option{
		progressbar.OptionSetWriter(c.App.ErrWriter),
		progressbar.OptionSetDescription(text),
		progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(50 * time.Millisecond),
		progressbar.OptionSpinnerType(14),
		progressbar.OptionSetSpinnerChangeInterval(0), // drawn as it is told, and by no clock of its own
		progressbar.OptionClearOnFinish(),
	}
}

// set tells how many bytes are done by now.
func (m *meter) set(n int64) {
	if m != nil {
		m.bar.Set64(n)
	}
}

// done takes the meter off the screen.
func (m *meter) done() {
	if m != nil {
		m.stop()
		m.bar.Clear()
		m.bar.Exit()
	}
}
