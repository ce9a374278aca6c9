package admin

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"unicode/utf8"
)

// Paths of the API. What a call is about stands in the query.
const (
	pathStatus     = "/v1/status"
	pathNamespaces = "/v1/namespaces"
	pathNamespace  = "/v1/namespace"
	pathApps       = "/v1/apps"
	pathApp        = "/v1/app"
	pathVersions   = "/v1/app/versions"
	pathRollback   = "/v1/app/rollback"
	pathPromote    = "/v1/app/promote"
	pathDeploy     = "/v1/deploy"
	pathObjects    = "/v1/objects"
	pathObject     = "/v1/object"
	pathFacets     = "/v1/facets"
	pathFacet      = "/v1/facet"
	pathAbort      = "/v1/facet/abort"
	pathClone      = "/v1/facet/clone"
	pathUsage      = "/v1/facet/usage"
	pathAudit      = "/v1/facet/audit"
	pathInvoke     = "/v1/invoke" // and what follows
	pathSQL        = "/v1/sql"
	pathLogs       = "/v1/logs"
	pathMetrics    = "/metrics"
)

// query makes url.Values of name and value pairs.
func query(pairs ...string) url.Values {
	q := make(url.Values, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// Status asks who answers.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, http.MethodGet, pathStatus, nil, nil)
}

// NamespacesCreate creates a namespace.
func (c *Client) NamespacesCreate(ctx context.Context, name string) (*Namespace, error) {
	return get[Namespace](ctx, c, http.MethodPost, pathNamespace, query("namespace", name), nil)
}

// NamespacesLs lists the namespaces by name.
func (c *Client) NamespacesLs(ctx context.Context) ([]Namespace, error) {
	return list[Namespace](ctx, c, pathNamespaces, nil)
}

// NamespacesShow gives one namespace.
func (c *Client) NamespacesShow(ctx context.Context, name string) (*Namespace, error) {
	return get[Namespace](ctx, c, http.MethodGet, pathNamespace, query("namespace", name), nil)
}

// NamespacesSet changes what values names.
func (c *Client) NamespacesSet(ctx context.Context, name string, values map[string]string) (*Namespace, error) {
	return get[Namespace](ctx, c, http.MethodPatch, pathNamespace, query("namespace", name), values)
}

// NamespacesRm removes a namespace; with force, its objects too.
func (c *Client) NamespacesRm(ctx context.Context, name string, force bool) error {
	q := query("namespace", name)
	if force {
		q.Set("force", "true")
	}
	return c.call(ctx, http.MethodDelete, pathNamespace, q, nil, nil)
}

// Deploy uploads an executable and makes it the app's newest version: live, or
// a canary for the given percentage of the objects unless that is 0. Size is
// what r will give, or -1; progress, unless nil, is told of what was read.
func (c *Client) Deploy(ctx context.Context, namespace, app string, canary int, r io.Reader, size int64, progress func(n int)) (*Deployment, error) {
	if progress != nil {
		r = io.TeeReader(r, progressWriter(progress))
	}
	q := query("namespace", namespace, "app", app)
	if canary != 0 {
		q.Set("canary", strconv.Itoa(canary))
	}
	req, err := newRequest(ctx, http.MethodPost, pathDeploy, q, io.NopCloser(r))
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	// Refusals come before the upload, not in the middle of it.
	req.Header.Set("Expect", "100-continue")
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return decode[Deployment](resp.Body)
}

type progressWriter func(int)

func (p progressWriter) Write(b []byte) (int, error) {
	p(len(b))
	return len(b), nil
}

// AppsLs lists the live version of each app, of one namespace or of all.
func (c *Client) AppsLs(ctx context.Context, namespace string) ([]AppVersion, error) {
	return list[AppVersion](ctx, c, pathApps, query("namespace", namespace))
}

// AppsVersions lists an app's versions, newest first.
func (c *Client) AppsVersions(ctx context.Context, namespace, app string) ([]AppVersion, error) {
	return list[AppVersion](ctx, c, pathVersions, query("namespace", namespace, "app", app))
}

// AppsRollback makes a version live; 0 is the one before the live one.
func (c *Client) AppsRollback(ctx context.Context, namespace, app string, version int) (*AppVersion, error) {
	return get[AppVersion](ctx, c, http.MethodPost, pathRollback, query("namespace", namespace, "app", app, "version", strconv.Itoa(version)), nil)
}

// AppsPromote makes an app's canary its live version.
func (c *Client) AppsPromote(ctx context.Context, namespace, app string) (*AppVersion, error) {
	return get[AppVersion](ctx, c, http.MethodPost, pathPromote, query("namespace", namespace, "app", app), nil)
}

// AppsRm removes an app; the data of its facets stays.
func (c *Client) AppsRm(ctx context.Context, namespace, app string) error {
	return c.call(ctx, http.MethodDelete, pathApp, query("namespace", namespace, "app", app), nil, nil)
}

// AppsSet changes variables, "env.NAME", and secrets, "secret.NAME"; an empty value removes one.
// Values are text: JSON carries nothing else, and would change other bytes without a word.
func (c *Client) AppsSet(ctx context.Context, namespace, app string, values map[string]string) error {
	for key, value := range values {
		if !utf8.ValidString(value) {
			return Errorf(http.StatusBadRequest, "bad_value", "the value of %s is no text in UTF-8", key).WithHint("encode it, as base64 does, and decode it in the app")
		}
	}
	return c.call(ctx, http.MethodPatch, pathApp, query("namespace", namespace, "app", app), values, nil)
}

// ObjectsLs lists objects whose names begin with prefix and come after `after`,
// by name, at most limit of them (0: 1000).
func (c *Client) ObjectsLs(ctx context.Context, namespace, prefix string, limit int, after string) ([]Object, error) {
	return list[Object](ctx, c, pathObjects, query("namespace", namespace, "prefix", prefix, "limit", strconv.Itoa(limit), "after", after))
}

// ObjectsCreate creates an object, NAMESPACE/OBJECT.
func (c *Client) ObjectsCreate(ctx context.Context, address string) (*Object, error) {
	return get[Object](ctx, c, http.MethodPost, pathObject, query("address", address), nil)
}

// ObjectsRm removes an object with everything in it.
func (c *Client) ObjectsRm(ctx context.Context, address string) error {
	return c.call(ctx, http.MethodDelete, pathObject, query("address", address), nil, nil)
}

// FacetsLs lists the facets at or below an address; "" is all.
func (c *Client) FacetsLs(ctx context.Context, address string) ([]FacetInfo, error) {
	return list[FacetInfo](ctx, c, pathFacets, query("address", address))
}

// FacetsInspect gives all that is known of a facet.
func (c *Client) FacetsInspect(ctx context.Context, address string) (*FacetDetail, error) {
	return get[FacetDetail](ctx, c, http.MethodGet, pathFacet, query("address", address), nil)
}

// FacetsAbort stops a facet and its descendants now; their data stays.
func (c *Client) FacetsAbort(ctx context.Context, address, reason string) error {
	return c.call(ctx, http.MethodPost, pathAbort, query("address", address, "reason", reason), nil, nil)
}

// FacetsDelete stops a facet and its descendants, and deletes their databases.
func (c *Client) FacetsDelete(ctx context.Context, address string) error {
	return c.call(ctx, http.MethodDelete, pathFacet, query("address", address), nil, nil)
}

// FacetsClone replaces dst by a copy of src and its descendants.
func (c *Client) FacetsClone(ctx context.Context, src, dst string) error {
	return c.call(ctx, http.MethodPost, pathClone, query("src", src, "dst", dst), nil, nil)
}

// FacetsUsage tells what a facet has used.
func (c *Client) FacetsUsage(ctx context.Context, address string) (*Usage, error) {
	return get[Usage](ctx, c, http.MethodGet, pathUsage, query("address", address), nil)
}

// Audit says whether a facet's SQL statements go into its log.
func (c *Client) Audit(ctx context.Context, address string, on bool) error {
	return c.call(ctx, http.MethodPost, pathAudit, query("address", address, "on", strconv.FormatBool(on)), nil, nil)
}

func get[T any](ctx context.Context, c *Client, method, path string, q url.Values, in any) (*T, error) {
	out := new(T)
	if err := c.call(ctx, method, path, q, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

func list[T any](ctx context.Context, c *Client, path string, q url.Values) ([]T, error) {
	out := []T{}
	if err := c.call(ctx, http.MethodGet, path, q, nil, &out); err != nil {
		return nil, err
	}
	return out, nil
}
