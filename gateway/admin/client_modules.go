package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/facetgateway/fgw/gateway/build"
)

// ModulesLs lists the modules that sources may import, by path.
func (c *Client) ModulesLs(ctx context.Context) ([]build.Module, error) {
	return list[build.Module](ctx, c, pathModules, nil)
}

// ModulesReplace allows the modules of an archive, which build.Packer makes, and no others.
func (c *Client) ModulesReplace(ctx context.Context, archive io.Reader) ([]build.Module, error) {
	req, err := newRequest(ctx, http.MethodPut, pathModules, nil, io.NopCloser(archive))
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []build.Module
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, fmt.Errorf("admin: answer of %s: %w", pathModules, err)
	}
	return all, nil
}
