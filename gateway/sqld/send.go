package sqld

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

// sendTimeout is how long a client may leave no room for an answer before its channel ends.
const sendTimeout = 10 * time.Second

// sendFailure answers a request that was not taken in.
func (ch *channel) sendFailure(h sqlchan.Header, f *sqlchan.Failure) error {
	p := sqlchan.Header{Type: sqlchan.Error, Session: h.Session, Request: h.Request, Epoch: ch.epoch}.Append(nil)
	return ch.send(sqlchan.AppendFailure(p, f), nil)
}

// trySend sends a packet if there is room.
func (ch *channel) trySend(p []byte) error {
	for {
		_, err := unix.SendmsgN(ch.fd, p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// send sends a packet; waiting, unless nil, is called before it waits for room.
func (ch *channel) send(p []byte, waiting func()) error {
	err := ch.trySend(p)
	if err == unix.EAGAIN {
		if waiting != nil {
			waiting()
		}
		err = ch.waitSend(p)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.ENOTCONN):
		return errGone
	case errors.Is(err, errBreach):
		return err
	}
	return fmt.Errorf("send on the SQL channel: %w", err)
}

// allowSend gives the client time to read. The channel's mutex is held.
func (ch *channel) allowSend() {
	if !ch.ended.Load() {
		ch.file.SetWriteDeadline(time.Now().Add(sendTimeout))
	}
}

// waitSend sends a packet once there is room, for which the client has sendTimeout.
func (ch *channel) waitSend(p []byte) error {
	if ch.ended.Load() {
		return errGone
	}
	// The deadline is that of all who wait, and begins anew only when something
	// was sent: otherwise each that comes would give the client more time.
	ch.mu.Lock()
	if ch.waiting++; ch.waiting == 1 {
		ch.allowSend()
	}
	ch.mu.Unlock()
	var opErr error
	err := ch.raw.Write(func(uintptr) bool {
		opErr = ch.trySend(p)
		return opErr != unix.EAGAIN
	})
	ch.mu.Lock()
	if ch.waiting--; ch.waiting > 0 && err == nil {
		ch.allowSend()
	}
	ch.mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ch.ended.Load() {
			return errGone
		}
		return breach("the client took no answer for %v", sendTimeout)
	}
	if err != nil {
		return err
	}
	return opErr
}
