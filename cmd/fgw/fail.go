package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/sandboxd"
)

// The exit codes, on which scripts rely.
const (
	exitFailed    = 1 // it failed; the reason is on standard error
	exitUsage     = 2 // the command line is wrong
	exitNoGateway = 3 // no gateway is running there, or it does not answer
	exitNotFound  = 4 // what was named does not exist
	exitRefused   = 5 // a limit, a quota, a policy, a permission, a missing layer
	exitConflict  = 6 // it exists already, is in use, or is newer than this program
)

// failure is an error as a person should see it: what was tried, why it did
// not work, and what to do about it.
type failure struct {
	what, why, hint string
	code            string // the stable code that --output json shows
	exit            int
	silent          bool // the reason is on standard error already
}

func (f *failure) Error() string {
	if f.what == "" {
		return f.why
	}
	return f.what + ": " + f.why
}

// usage is a failure of the command line itself.
func usage(line commandLine, why string) *failure {
	f := &failure{what: line.name(), why: why, code: "usage", exit: exitUsage}
	f.hint = seeHelp(line.name())
	if f.what == "" {
		f.what = "command line"
	}
	return f
}

// wrongUsage is usage for a command that is already running.
func wrongUsage(what, format string, args ...any) *failure {
	return &failure{what: what, why: fmt.Sprintf(format, args...), code: "usage", exit: exitUsage,
		hint: seeHelp(what)}
}

// seeHelp points to what a command's help says; "" is the program's own.
func seeHelp(command string) string {
	return "see " + strings.TrimSpace("fgw "+command) + " --help"
}

// failed turns an error into a failure with the exit code that belongs to it.
func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return f
	}
	f := &failure{what: what, why: err.Error(), code: "failed", exit: exitFailed}
	var remote *admin.Error
	switch {
	case errors.As(err, &remote):
		f.why, f.hint, f.code, f.exit = remote.Message, remote.Hint, remote.Code, exitOf(remote.Status)
	case errors.Is(err, admin.ErrNoGateway):
		f.code, f.exit = "no_gateway", exitNoGateway
	case errors.Is(err, admin.ErrNoAnswer):
		f.code, f.exit = "no_answer", exitNoGateway
		f.hint = "it hangs, or the machine is very busy; its log may say more. Stop it and start it again: nothing that was answered is lost"
	case errors.Is(err, sandboxd.ErrInUse):
		f.code, f.exit = "in_use", exitConflict
		f.hint = "another gateway runs on this data directory: stop it, or give this one a --data of its own"
	case newerData(err):
		f.code, f.exit = "newer_version", exitConflict
		f.why = "the data directory was written by a newer version of fgw"
		f.hint = "use that version, or a newer one"
	case errors.Is(err, sandboxd.ErrLayerMissing):
		f.code, f.exit = "layer_missing", exitRefused
		f.hint = layersMend(err)
	case errors.Is(err, sandboxd.ErrPortInUse):
		f.code = "port_in_use"
		f.hint = "choose another with --listen; 127.0.0.1:0 takes any free port"
	case errors.Is(err, fs.ErrNotExist):
		f.code, f.exit = "not_found", exitNotFound
	case errors.Is(err, fs.ErrPermission):
		f.code, f.exit = "permission", exitRefused
	case errors.Is(err, context.Canceled):
		f.code, f.why = "interrupted", "interrupted"
	}
	return f
}

// layersMend says how to get the layers of confinement that are missing.
func layersMend(err error) string {
	var mends []string
	if missing := (*sandboxd.MissingError)(nil); errors.As(err, &missing) {
		for _, l := range missing.Layers {
			if l.Mend != "" && !slices.Contains(mends, l.Mend) {
				mends = append(mends, l.Mend)
			}
		}
	}
	return strings.Join(append(mends, "`fgw doctor` lists each layer of confinement"), "; ")
}

// newerData reports whether a gateway ended because it does not know its data
// directory's version. It is another process, so its exit status says so.
func newerData(err error) bool {
	ended := (*sandboxd.EndedError)(nil)
	return errors.As(err, &ended) && errors.Is(err, sandboxd.ErrGatewayDied) && ended.Exit.Code == gateway.ExitNewer
}

// exitOf is the exit code for an answer of the gateway.
func exitOf(status int) int {
	switch status {
	case http.StatusBadRequest:
		return exitUsage
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests,
		http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return exitRefused
	case http.StatusConflict:
		return exitConflict
	}
	return exitFailed
}

// report writes an error to standard error, in words and, where JSON was asked
// for, as JSON on the last line, and returns the exit code.
func report(w io.Writer, err error, line commandLine) int {
	if err == nil {
		return 0
	}
	f := failed(line.name(), err).(*failure)
	if !f.silent {
		fmt.Fprintf(w, "fgw: %s\n", strings.TrimSpace(f.Error()))
		if f.hint != "" {
			fmt.Fprintf(w, "hint: %s\n", f.hint)
		}
	}
	if line.json {
		type body struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.Encode(map[string]body{"error": {f.code, f.Error()}})
	}
	return f.exit
}
