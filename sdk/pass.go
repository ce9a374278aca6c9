package sdk

import (
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// pass carries a request and its answer through this process: upgrades, streams and trailers included.
func (s *Stub) pass(w http.ResponseWriter, r *http.Request) {
	p := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "facet"})
			p.Out.Host = p.In.Host
			p.Out.Trailer = p.In.Trailer // the map itself: it is filled when the body has ended
			for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix"} {
				if v, ok := p.In.Header[name]; ok {
					p.Out.Header[name] = v
				}
			}
		},
		Transport:     s,
		FlushInterval: -1,
		ErrorHandler:  writeProblem,
	}
	p.ServeHTTP(w, r)
}

// endBody is an answer's body; when it is closed the call is over. It passes writes on, for an
// answer that switched protocols.
type endBody struct {
	io.ReadCloser
	once sync.Once
	end  func()
}

func (b *endBody) Write(p []byte) (int, error) {
	if w, ok := b.ReadCloser.(io.Writer); ok {
		return w.Write(p)
	}
	return 0, http.ErrNotSupported
}

func (b *endBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.end)
	return err
}
