package rig

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
)

// Metric is one of the gateway's metrics, as its admin socket gives it; 0 where there is none of that name.
func (g *Gateway) Metric(name string) (value float64) {
	g.T.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(g.Data, "admin.sock"))
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://admin/metrics")
	if err != nil {
		g.T.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), name+" "); found {
			fmt.Sscan(text, &value)
		}
	}
	return value
}
