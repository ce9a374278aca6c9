package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

const (
	maxIdle      = 16               // connections that a policy keeps open between requests
	maxIdleHost  = 8                // to one host
	idleTimeout  = 30 * time.Second // and how long: a facet is idle-stopped after 10 s
	maxAddrs     = 8                // addresses of one name that are tried
	nextAddr     = 250 * time.Millisecond
	pingAfter    = 30 * time.Second // an HTTP/2 connection without a frame is asked whether it lives
	streamBuffer = wire.Window      // what HTTP/2 holds of an answer that the facet doesn't read
)

// newTransport returns the connections of one policy. Its environment has no say: no proxy,
// no redirect, no cookie, no compression beyond what the facet itself asked for.
func (e *Egress) newTransport(p *Policy) *http.Transport {
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, addr string) (net.Conn, error) { return e.dial(ctx, p, addr) },
		TLSClientConfig:        &tls.Config{RootCAs: e.cfg.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    e.cfg.ConnectTimeout,
		ResponseHeaderTimeout:  e.cfg.HeadTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: wire.MaxHeadBytes,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdleHost,
		IdleConnTimeout:        idleTimeout,
		// The buffer is per stream: net/http's 4 MB × the streams of a facet that doesn't read would be
		// the gateway's memory. The connection's own stays large, so that unread streams don't stop others.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: streamBuffer, SendPingTimeout: pingAfter, PingTimeout: pingAfter / 2},
	}
}

// dial connects to hostPort for p, whose word is asked once more: it also decides which
// addresses are open.
func (e *Egress) dial(ctx context.Context, p *Policy, hostPort string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.ConnectTimeout, errConnectTimeout)
	defer cancel()
	t, err := parseHostPort(hostPort)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", hostPort, err)
	}
	m := p.match(t)
	if m == noMatch {
		return nil, denied("%s is not among the hosts that this facet may reach", t)
	}
	release, err := e.reserve(p)
	if err != nil {
		return nil, err
	}
	c, err := e.dialJudged(ctx, t, m == matchNamed)
	if err != nil {
		release()
		return nil, err
	}
	return &conn{Conn: c, closed: release}, nil
}

// reserve counts a connection that is about to be opened, and returns what uncounts it.
func (e *Egress) reserve(p *Policy) (release func(), err error) {
	release = func() {
		p.conns.Add(-1)
		e.conns.Add(-1)
	}
	mine, all := p.conns.Add(1), e.conns.Add(1)
	switch {
	case mine > int64(e.cfg.MaxConnsFacet):
		err = failed(nil, "this facet has its maximum of %d outgoing connections", e.cfg.MaxConnsFacet)
	case all > int64(e.cfg.MaxConns):
		err = failed(nil, "the gateway has its maximum of %d outgoing connections", e.cfg.MaxConns)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// dialJudged resolves t and connects to it. Every address of the answer is judged, and those that
// pass are dialled as addresses: the name is not resolved again, so a second answer can't
// differ from the judged one. What is connected is judged once more on the socket.
func (e *Egress) dialJudged(ctx context.Context, t target, named bool) (net.Conn, error) {
	addrs, err := e.resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	var allowed []netip.AddrPort
	var refusal error
	for _, a := range addrs {
		ap := netip.AddrPortFrom(a.Unmap(), t.port)
		if err := e.permit(ctx, t, ap, named); err != nil {
			refusal = err
			continue
		}
		allowed = append(allowed, ap)
	}
	if len(allowed) == 0 {
		return nil, refusal
	}
	return race(ctx, allowed[:min(len(allowed), maxAddrs)], func(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
		return e.connect(ctx, t, ap, named)
	})
}

// resolve finds the addresses of a target. The name is absolute (its final dot): a search
// list would turn a public name into one of the administrator's network.
func (e *Egress) resolve(ctx context.Context, t target) ([]netip.Addr, error) {
	if t.addr.IsValid() {
		return []netip.Addr{t.addr}, nil
	}
	if t.host == "localhost" || strings.HasSuffix(t.host, ".localhost") { // by RFC 6761 §6.3, and no name server is asked
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	addrs, err := e.cfg.Resolver.LookupNetIP(ctx, "ip", t.host+".")
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: t.host, IsNotFound: true}
	}
	return addrs, nil
}

// permit judges an address with what is known of this machine. The message names the class and not
// the address: with "*" a facet could otherwise read an internal network's names.
func (e *Egress) permit(ctx context.Context, t target, ap netip.AddrPort, named bool) error {
	refusal := judge(ap.Addr(), named, e.cfg.AllowAddrs)
	switch {
	case e.isListener(ctx, ap):
		refusal = "the gateway's own"
	case refusal == "" && judge(ap.Addr(), false, nil) == "" && isThisMachine(ctx, ap.Addr()) && !(named && e.isListed(ap.Addr())):
		// A public address, but this machine's: its services count on what stands in front of
		// that address, and this doesn't come that way.
		refusal = "this machine's own"
	}
	if refusal == "" {
		return nil
	}
	err := denied("%s leads to an address that is %s: facets reach public addresses, and those that the administrator lists for hosts named in the facet's egress", t, refusal)
	err.err = fmt.Errorf("%s is %s", ap, refusal)
	return err
}

func (e *Egress) isListed(a netip.Addr) bool {
	return slices.ContainsFunc(e.cfg.AllowAddrs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// isListener reports whether ap is one of the gateway's listeners, by any address that leads there.
func (e *Egress) isListener(ctx context.Context, ap netip.AddrPort) bool {
	for _, own := range e.cfg.Own {
		if own.Port() != ap.Port() {
			continue
		}
		a := own.Addr().Unmap()
		if a == ap.Addr() || a.IsUnspecified() && (ap.Addr().IsLoopback() || isThisMachine(ctx, ap.Addr())) {
			return true
		}
	}
	return false
}

// isThisMachine asks the routing table, by connecting a datagram socket, which sends nothing: what
// leads to the machine itself comes from the very address that it goes to.
func isThisMachine(ctx context.Context, a netip.Addr) bool {
	const discard = 9 // any port does
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", netip.AddrPortFrom(a, discard).String())
	if err != nil {
		return false // no route: connecting will say so
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	return ok && local.AddrPort().Addr().Unmap().WithZone("") == a
}

// connect dials one address. Control sees the address that the kernel is about to get.
func (e *Egress) connect(ctx context.Context, t target, ap netip.AddrPort, named bool) (net.Conn, error) {
	d := net.Dialer{ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		last, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return e.permit(ctx, t, netip.AddrPortFrom(last.Addr().Unmap(), last.Port()), named)
	}}
	return d.DialContext(ctx, "tcp", ap.String())
}

// race dials addresses in their order, the next when the one before has failed or has taken
// nextAddr, and returns the first connection. It returns when no attempt is left running.
func race(ctx context.Context, addrs []netip.AddrPort, dial func(context.Context, netip.AddrPort) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var won net.Conn
	var first error
	started, running := 0, 0
	for started < len(addrs) && won == nil && ctx.Err() == nil || running > 0 {
		select {
		case <-timer.C:
			if won != nil || started == len(addrs) || ctx.Err() != nil {
				continue
			}
			ap := addrs[started]
			started++
			running++
			go func() {
				c, err := dial(ctx, ap)
				results <- result{c, err}
			}()
			timer.Reset(nextAddr)
		case r := <-results:
			running--
			switch {
			case r.err == nil && won == nil:
				won = r.c
				cancel()
			case r.err == nil:
				r.c.Close()
			default:
				if first == nil {
					first = r.err
				}
				timer.Reset(0)
			}
		}
	}
	if won != nil {
		return won, nil
	}
	if err := context.Cause(ctx); first == nil || err != nil {
		return nil, errors.Join(err, first)
	}
	return nil, first
}

// conn is a connection that counts while it is open.
type conn struct {
	net.Conn
	once   sync.Once
	closed func()
}

func (c *conn) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}
