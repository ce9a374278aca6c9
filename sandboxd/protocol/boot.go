package protocol

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Descriptors that the gateway starts with. The HTTP listeners follow.
const (
	BootControl = 3 // the socketpair to sandboxd
	BootConfig  = 4 // a memfd with a BootFile as JSON
	BootAdmin   = 5 // the admin socket, listening
	BootLock    = 6 // the data directory's lock: open as long as the gateway lives
	BootHTTP    = 7 // the first HTTP listener
)

// BootFile is what the memfd holds.
type BootFile struct {
	DataDir  string          `json:"data_dir"`  // as the gateway sees it
	HostPath string          `json:"host_path"` // as people know it: for messages only
	Addrs    []string        `json:"addrs"`     // one per HTTP listener, as bound
	Workers  int             `json:"workers"`   // how many SQL workers sandboxd will start
	MaxFacet Limits          `json:"max_facet"` // what a facet's limits are clamped to
	Config   json.RawMessage `json:"config"`    // the gateway's own configuration
}

// Boot is what the gateway process finds when it starts.
type Boot struct {
	BootFile
	Client *Client
	Admin  *os.File   // listening unix socket, DATADIR/admin.sock
	Lock   *os.File   // keep it open
	HTTP   []*os.File // listening TCP sockets, in the order of Addrs
}

// LoadBoot takes over the descriptors that sandboxd left, and hides this process
// from others of its user.
func LoadBoot() (*Boot, error) {
	if err := Hide(); err != nil {
		return nil, err
	}
	f := os.NewFile(BootConfig, "boot")
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("read what sandboxd left: %w", err)
	}
	f.Close()
	b := &Boot{Admin: inherit(BootAdmin, "admin"), Lock: inherit(BootLock, "lock")}
	if err := json.Unmarshal(raw, &b.BootFile); err != nil {
		return nil, fmt.Errorf("read what sandboxd left: %w", err)
	}
	for i, addr := range b.Addrs {
		b.HTTP = append(b.HTTP, inherit(BootHTTP+i, addr))
	}
	if b.Client, err = NewClient(inherit(BootControl, "sandboxd")); err != nil {
		return nil, err
	}
	return b, nil
}

// inherit takes descriptor fd, which must not pass on to a further exec.
func inherit(fd int, name string) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// Hide makes this process non-dumpable: no other of the same user may trace it or
// read its memory. An exec resets that, so each process asks for it itself.
func Hide() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("become non-dumpable: %w", err)
	}
	return nil
}
