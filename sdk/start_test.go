package sdk

import (
	"testing"
	"time"
)

// 0 means the namespace's limit, so that nothing that somebody gave may become it.
func TestSmallLimitsStayLimits(t *testing.T) {
	l := Limits{CPU: 0.29, StatementTime: time.Microsecond, RequestTime: -time.Nanosecond}
	if got := l.wire(); got.CPUMilli != 290 || got.StatementMS != 1 || got.RequestMS != -1 {
		t.Errorf("%+v became %+v", l, got)
	}
	l = Limits{CPU: 0.0001, RequestTime: 1500 * time.Millisecond}
	if got := l.wire(); got.CPUMilli != 1 || got.StatementMS != 0 || got.RequestMS != 1500 {
		t.Errorf("%+v became %+v", l, got)
	}
}
