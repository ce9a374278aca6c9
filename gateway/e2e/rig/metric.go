package rig

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// Metric is one of the gateway's metrics.
func (g *Gateway) Metric(name string) float64 {
	g.T.Helper()
	return Metric(g.T, g.Data, name)
}

// Metric is one metric of the gateway that serves a data directory, as its admin socket gives it; 0 where there is none of that name.
func Metric(t testing.TB, data, name string) (value float64) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(data, "admin.sock"))
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://admin/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), name+" "); found {
			fmt.Sscan(text, &value)
		}
	}
	return value
}
