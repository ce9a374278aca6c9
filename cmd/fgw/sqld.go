package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/facetgateway/fgw/gateway/sqld"
	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// channelFD is where the app that starts the worker leaves its end of the SQL
// channel's socketpair.
const channelFD = 3

func sqldCommand() *cli.Command {
	return &cli.Command{
		Name:  "sqld",
		Usage: "the SQL worker alone, for an app outside a gateway",
		Description: "An app that is started on its own (`go run .`) or by its tests runs this to have the same\n" +
			"database engine under the same rules. It serves one SQL channel on descriptor 3 and ends with it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Usage: "the database `FILE`"},
			&cli.BoolFlag{Name: "memory", Usage: "a database in memory, gone at the end"},
			&cli.IntFlag{Name: "wire", Usage: "the wire `VERSION` that the app speaks; another one is refused", Value: wire.MaxVersion},
		},
		Action: serveSQLD,
	}
}

func serveSQLD(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	file := c.String("file")
	if (file == "") == !c.Bool("memory") {
		return wrongUsage("sqld", "it needs --file or --memory, and not both")
	}
	if v := c.Int("wire"); v < wire.MinVersion || v > wire.MaxVersion {
		return &failure{what: "sqld", why: fmt.Sprintf("the app speaks version %d of the wire, this fgw %d to %d", v, wire.MinVersion, wire.MaxVersion),
			hint: "use the fgw that the app was made with, or renew its vendor directory with a new `fgw new`", code: "wire_version", exit: exitConflict}
	}
	if kind, err := unix.GetsockoptInt(channelFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		return &failure{what: "sqld", why: "descriptor 3 is no SQL channel", code: "usage", exit: exitUsage,
			hint: "an app's SDK starts this command; to read a database use `fgw sql`"}
	}
	if file != "" {
		abs, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(abs), 0o755); err != nil {
			return err
		}
		file = abs
	}
	return sqld.ServeOne(c.Context, os.NewFile(channelFD, "sql-channel"), file)
}
