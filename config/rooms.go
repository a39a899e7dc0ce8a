package config

import (
	"errors"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/upstream"
)

// Proxy is the configuration in the proxy's own terms, as far as settings say it:
// what verifies tokens, the engine and the trace are still to be set. Files of
// upstreams are read. Errors say where a setting was set.
func (c *Config) Proxy() (proxy.Config, error) {
	var out proxy.Config
	if name, err := giveAll(settings(), c, &out); err != nil {
		return out, c.At(nil, name, err)
	}
	if _, err := out.Key.ForPath(""); err != nil {
		return out, c.At(nil, "key", err)
	}
	if err := out.Upstream.Check(); err != nil {
		return out, c.AtUpstream(nil, blame(err), err)
	}
	for i := range c.Upstreams {
		named, room := &c.Upstreams[i], upstream.Config{}
		name, err := giveAll(ofNamed(), named, &room)
		if err != nil {
			return out, c.AtUpstream(named, name, err)
		}
		if err := room.Check(); err != nil {
			return out, c.AtUpstream(named, blame(err), err)
		}
		out.Upstreams = append(out.Upstreams, room)
	}
	for i := range c.Routes {
		route, room := &c.Routes[i], proxy.Route{}
		if name, err := giveAll(ofRoute(), route, &room); err != nil {
			return out, c.At(route, name, err)
		}
		if _, err := room.Rules.Key.ForPath(room.Match.Path); err != nil {
			return out, c.At(route, "key", err)
		}
		out.Routes = append(out.Routes, room)
		if err := proxy.SortRoutes(append([]proxy.Route(nil), out.Routes...)); err != nil {
			return out, c.At(route, itemPlace, err)
		}
	}
	return out, nil
}

// blame names the setting that an upstream's error is about.
func blame(err error) string {
	switch {
	case errors.Is(err, upstream.ErrCA):
		return "backend-ca"
	case errors.Is(err, upstream.ErrBackend), errors.Is(err, upstream.ErrManyBackends):
		return "backend"
	}
	return "backend-cert"
}

// Files are those whose contents are a part of the settings that can change while
// the proxy runs.
func (c *Config) Files() (files []string) {
	add := func(u *Upstream) {
		flags := flagsOf("", ofUpstreams(), u)
		for _, l := range ofUpstreams() {
			if file := flags.Lookup(l.about().name).Value.String(); l.about().file && file != "" {
				files = append(files, file)
			}
		}
	}
	add(&c.Upstream)
	for i := range c.Upstreams {
		add(&c.Upstreams[i].Upstream)
	}
	return files
}
