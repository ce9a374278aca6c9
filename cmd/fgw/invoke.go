package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/urfave/cli/v2"
)

func invokeCommand() *cli.Command {
	return &cli.Command{
		Name:      "invoke",
		Usage:     "call a facet as HTTP would",
		ArgsUsage: "ADDRESS [PATH]",
		Description: "The answer's body goes to standard output as it comes. The exit code is 0 for a status from 200 to 399,\n" +
			"else 1.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "X", Usage: "the `METHOD`", DefaultText: "GET, or POST with -d"},
			&cli.StringSliceFlag{Name: "H", Usage: "a header, `NAME:VALUE`; may be given several times"},
			&cli.StringFlag{Name: "d", Usage: "the body: `DATA`, or @FILE, or @- for standard input"},
			&cli.BoolFlag{Name: "i", Usage: "the answer's status and headers, too"},
		},
		Action: invoke,
	}
}

func invoke(c *cli.Context) error {
	args, err := arguments(c, 1, 2)
	if err != nil {
		return err
	}
	request := admin.InvokeRequest{Method: c.String("X"), Path: "/"}
	if request.Address, err = checkAddress(c, args[0], aFacet); err != nil {
		return err
	}
	if len(args) == 2 {
		request.Path = args[1]
	}
	if request.Header, err = headers(c.StringSlice("H")); err != nil {
		return err
	}
	if c.IsSet("d") {
		body, err := valueOrFile(c, c.String("d"))
		if err != nil {
			return err
		}
		request.Body = bytes.NewReader(body)
		if request.Method == "" {
			request.Method = http.MethodPost
		}
		if request.Header.Get("Content-Type") == "" {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	client, err := dial(c)
	if err != nil {
		return err
	}
	defer client.Close()
	resp, err := client.Invoke(c.Context, request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols { // reading what follows heeds no context
		defer context.AfterFunc(c.Context, func() { resp.Body.Close() })()
	}
	gateways := resp.Header.Get(wire.HeaderError) != ""
	resp.Header.Del(wire.HeaderError)
	if c.Bool("i") {
		writeHead(c.App.Writer, resp)
	}
	out, said := c.App.Writer, &bytes.Buffer{}
	if gateways {
		out = io.MultiWriter(out, said)
	}
	if _, err := io.Copy(out, resp.Body); err != nil && c.Context.Err() != nil {
		return c.Context.Err()
	} else if err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return nil
	}
	f := &failure{what: "invoke", why: fmt.Sprintf("%s answered %s", args[0], resp.Status), code: "status", exit: exitFailed}
	var body struct{ Error admin.Error }
	if gateways && json.Unmarshal(said.Bytes(), &body) == nil && body.Error.Code != "" {
		f.why, f.hint, f.code = body.Error.Message, body.Error.Hint, body.Error.Code
	}
	return f
}

func headers(given []string) (http.Header, error) {
	h := http.Header{}
	for _, text := range given {
		name, value, found := strings.Cut(text, ":")
		if name = strings.TrimSpace(name); !found || name == "" {
			return nil, wrongUsage("invoke", "%q is no header NAME:VALUE", text)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

func writeHead(w io.Writer, resp *http.Response) {
	fmt.Fprintf(w, "%s %s\n", resp.Proto, resp.Status)
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		for _, value := range resp.Header[name] {
			fmt.Fprintf(w, "%s: %s\n", name, value)
		}
	}
	fmt.Fprintln(w)
}
