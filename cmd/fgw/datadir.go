package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/urfave/cli/v2"
)

// dataDir is the data directory that the command line, FGW_DATA or the default
// names, absolute.
func dataDir(c *cli.Context) (string, error) {
	dir := c.String("data")
	if dir == "" {
		var err error
		if dir, err = defaultDataDir(os.Geteuid(), os.Getenv); err != nil {
			return "", err
		}
	}
	return filepath.Abs(dir)
}

// defaultDataDir is where a service of the system, or a program of the user's,
// keeps its state.
func defaultDataDir(uid int, getenv func(string) string) (string, error) {
	if uid == 0 {
		return "/var/lib/fgw", nil
	}
	if state := getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "fgw"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", errors.New("neither --data, FGW_DATA, XDG_STATE_HOME nor HOME says where the data directory is")
	}
	return filepath.Join(home, ".local", "state", "fgw"), nil
}

// dial connects to the gateway of the data directory.
func dial(c *cli.Context) (*admin.Client, error) {
	dir, err := dataDir(c)
	if err != nil {
		return nil, err
	}
	client, err := admin.Dial(dir)
	if err != nil {
		f := failed(commandName(c), err).(*failure)
		if f.exit == exitNoGateway {
			f.why = "no gateway is running on " + dir
			f.hint = fmt.Sprintf("start one: fgw serve --listen 127.0.0.1:8080 --data %s", shellWord(dir))
		}
		return nil, f
	}
	return client, nil
}
