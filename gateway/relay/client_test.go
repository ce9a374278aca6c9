package relay

import (
	"testing"
	"time"
)

// TestLookAfterTheEnd: a look that began when the upload ended is the last.
func TestLookAfterTheEnd(t *testing.T) {
	u := &upload{ctx: t.Context(), done: make(chan struct{})}
	u.looks = time.AfterFunc(time.Hour, u.look)
	u.looks.Stop()
	close(u.done)
	u.look()
	if u.looks.Stop() {
		t.Error("another look is to come")
	}
}
