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

// dataFlag is what a command that is proposed needs, to mean the same gateway: --data, where it was given and the
// environment does not say it.
func dataFlag(c *cli.Context) string {
	if dir := c.String("data"); dir != "" && dir != os.Getenv("FGW_DATA") {
		return " --data " + shellWord(dir)
	}
	return ""
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
		if errors.Is(err, admin.ErrNoGateway) {
			f.why = "no gateway is running on " + dir
			f.hint = fmt.Sprintf("start one: fgw serve --listen 127.0.0.1:8080 --data %s", shellWord(dir))
		}
		return nil, f
	}
	return client, nil
}

// withGateway connects to the gateway for as long as act runs.
func withGateway(c *cli.Context, act func(*admin.Client) error) error {
	client, err := dial(c)
	if err != nil {
		return err
	}
	defer client.Close()
	return act(client)
}

// noArguments is the action of a command that takes none.
func noArguments(act func(*cli.Context, *admin.Client) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if _, err := arguments(c, 0, 0); err != nil {
			return err
		}
		return withGateway(c, func(client *admin.Client) error { return act(c, client) })
	}
}
