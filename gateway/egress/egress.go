// Package egress performs the outgoing requests of facets. A facet has no network: it hands
// the gateway an HTTP request in absolute form, and the gateway decides twice, by the name
// before anything is resolved and by the address before anything is connected, then performs
// it, speaking TLS where the request says https. DESIGN.md tells the threats and the rules.
package egress

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// Defaults of Config, and why.
const (
	DefaultConnectTimeout = 10 * time.Second // DNS and TCP together; TLS has as long again
	DefaultHeadTimeout    = 60 * time.Second // a model's answer that isn't streamed may take this long to begin
	DefaultStallTimeout   = 60 * time.Second // event streams send something more often, by custom every 15–30 s
	DefaultMaxConns       = 4096             // a descriptor each
	DefaultMaxConnsFacet  = 64               // so that it takes 64 facets together to use all of them
)

// Resolver finds the addresses of a name. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config is what the administrator decides for every facet. The zero value is closed to all
// addresses that are not public, and has the defaults above.
type Config struct {
	// AllowAddrs are ranges that may be reached although they are not public. A metadata
	// address is opened only by a prefix of that one address, never by a wider one.
	AllowAddrs []netip.Prefix
	// Own are the gateway's listeners. They are never reached, AllowAddrs or not: what comes
	// from this machine would pass as a local client's. An unspecified address stands for all
	// of this machine's.
	Own []netip.AddrPort
	// Resolver is Go's own where nil.
	Resolver Resolver
	// Roots are the system's where nil.
	Roots *x509.CertPool
	// Log gets refusals and failures in full, at debug level: facets cause them at will.
	Log *slog.Logger

	ConnectTimeout time.Duration // until there is a connection
	HeadTimeout    time.Duration // from the request's end to the answer's head
	StallTimeout   time.Duration // in a body, either way, without a byte
	MaxConns       int           // connections of all facets together, open or being opened
	MaxConnsFacet  int           // and of one policy: a request that is cancelled leaves its connection to be opened
}

// Egress performs requests. Its methods may be called by many goroutines at once.
type Egress struct {
	cfg   Config
	conns atomic.Int64 // connections of all policies, open or being opened
}

// New returns an Egress.
func New(cfg Config) *Egress {
	if cfg.Resolver == nil {
		cfg.Resolver = &net.Resolver{PreferGo: true}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&cfg.ConnectTimeout, DefaultConnectTimeout}, {&cfg.HeadTimeout, DefaultHeadTimeout}, {&cfg.StallTimeout, DefaultStallTimeout},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.MaxConnsFacet <= 0 {
		cfg.MaxConnsFacet = DefaultMaxConnsFacet
	}
	cfg.AllowAddrs = canonicalPrefixes(cfg.AllowAddrs)
	return &Egress{cfg: cfg}
}

// Serve performs the request that r, in absolute form, asks for, as far as p allows, and streams
// the answer to w. What the gateway itself has to say is an answer with the header Fgw-Error:
// 403 egress_denied, 502 egress_failed, 504 egress_timeout, 400 bad_request. An answer that
// breaks off after its head ends in panic(http.ErrAbortHandler) where w belongs to a
// *http.Server, since only the end of the connection can tell the facet so.
//
// count, if not nil, is told bytes as they pass, heads and bodies, both ways, names and values as
// they are written in HTTP/1.1. It is called by two goroutines at once.
func (e *Egress) Serve(w http.ResponseWriter, r *http.Request, p *Policy, count func(bytes int64)) {
	if count == nil {
		count = func(int64) {}
	}
	t, err := admit(r, p)
	if err != nil {
		e.refuse(w, r, err)
		return
	}
	x := &exchange{e: e, w: w, r: r, target: t, count: count, control: http.NewResponseController(w)}
	x.run(p.transport(e))
}

// admit decides by the request's head alone. No name that it refuses is ever resolved: a query
// to a name server carries whatever a facet puts in the name.
func admit(r *http.Request, p *Policy) (target, error) {
	if r.Method == http.MethodConnect {
		return target{}, denied("CONNECT is not for egress: send the request itself in absolute form, and the gateway speaks TLS")
	}
	t, err := parseTarget(r.URL)
	if err != nil {
		return target{}, err
	}
	if up := upgradeWanted(r.Header); up != "" {
		return target{}, denied("an upgrade to %.40q of the connection to %s: egress carries requests and answers only", up, t)
	}
	if p.match(t) == noMatch {
		return target{}, denied("%s is not among the hosts that this facet may reach", t)
	}
	return t, nil
}

// transport returns the policy's connections to the outside, made at the first call.
//
// Why each policy has its own, although a pool keyed by host would not let a facet reach a host
// that it may not (each request is admitted before it gets to a pool): two facets that share a
// connection share its state. A server that mistakes where a request ends answers
// one facet with what belongs to another, and lets the first prepare the second's request; one that
// authenticates connections (NTLM, Negotiate) takes the second for the first; a warm connection tells
// one facet whom another talks to; and what a named private host may do (see match) would be
// had by "*" through the pool. Facets are hostile to each other, so none of these is shared.
func (p *Policy) transport(e *Egress) *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool == nil {
		p.pool = e.newTransport(p)
	}
	return p.pool
}

// Close ends the policy's idle connections, for when its facet has stopped. Without it they end
// by themselves after idleTimeout. The policy can be used again.
func (p *Policy) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool != nil {
		p.pool.CloseIdleConnections()
	}
}
