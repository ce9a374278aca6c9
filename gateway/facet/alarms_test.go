package facet

import (
	"bytes"
	"testing"

	"github.com/facetgateway/fgw/gateway/registry"
)

// An alarm that is set holds the bundles of its facet, even if the one before it is dropped in the same moment.
func TestAlarmDroppedWhileItMoves(t *testing.T) {
	s := newAlarms()
	s.retain = func(*registry.Alarm) func() { return func() {} }
	how := bytes.Repeat([]byte("x"), 16<<20) // to compare it takes longer than to drop an alarm
	same := bytes.Clone(how)
	id := alarmID{"00", 1}
	for i := range 30 {
		s.put(registry.Alarm{Object: "00", N: 1, At: 1, Start: how})
		begins, moved := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(moved)
			close(begins)
			s.put(registry.Alarm{Object: "00", N: 1, At: 2, Start: same})
		}()
		<-begins
		s.drop(id)
		<-moved
		if e := s.byID[id]; e != nil && e.release == nil {
			t.Fatalf("round %d: its bundles are not held", i)
		}
		s.drop(id)
	}
}
