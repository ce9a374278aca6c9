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

// trySend sends a packet if there is room.
func (ch *channel) trySend(p []byte) error { return ch.sock.Write(p) }

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
		ch.room.SetWriteDeadline(time.Now().Add(sendTimeout))
	}
}

// waitSend sends a packet once there is room, for which the client has sendTimeout.
func (ch *channel) waitSend(p []byte) error {
	// The deadline is that of all who wait, and begins anew only when something
	// was sent: otherwise each that comes would give the client more time.
	room, err := ch.enterWait()
	if err != nil {
		return err
	}
	var opErr error
	raw, err := room.SyscallConn()
	if err == nil {
		err = raw.Write(func(fd uintptr) bool {
			opErr = sqlchan.WritePacket(fd, p)
			return opErr != unix.EAGAIN
		})
	}
	ch.mu.Lock()
	if ch.waiting--; ch.waiting == 0 {
		ch.room.Close()
		ch.room = nil
	} else if err == nil {
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

// enterWait counts one more in who waits for room, and gives what to wait with.
func (ch *channel) enterWait() (room *os.File, err error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.ended.Load() {
		return nil, errGone
	}
	if ch.waiting == 0 {
		if ch.room, err = ch.sock.Room(); err != nil {
			return nil, err
		}
		ch.allowSend()
	}
	ch.waiting++
	return ch.room, nil
}
