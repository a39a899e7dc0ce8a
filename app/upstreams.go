package app

import (
	"errors"
	"os"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/upstream"
)

// upstreamOf is an upstream in the proxy's own terms; named is nil for the one at
// large. Its errors say where a setting was set.
func upstreamOf(c *config.Config, named *config.NamedUpstream) (upstream.Config, error) {
	u, name := &c.Upstream, ""
	if named != nil {
		u, name = &named.Upstream, named.Name
	}
	out := upstream.Config{
		Name: name, Backends: u.Backends, ConnectTimeout: u.ConnectTimeout,
		ReadTimeout: u.ReadTimeout, WriteTimeout: u.WriteTimeout, MaxHeader: int(u.MaxHeader),
		MaxConns: u.MaxConns, MaxQueue: u.MaxQueue,
		HealthPath: u.HealthPath, HealthInterval: u.HealthInterval, EjectAfter: u.EjectAfter,
		ResolveInterval: u.ResolveInterval, ServerName: u.ServerName,
	}
	if u.RoundRobin {
		out.Balance = upstream.RoundRobin
	}
	switch {
	case u.Cert != "" && u.Key == "":
		return out, c.AtUpstream(named, "backend-cert", errors.New("want backend_key, its key, with it"))
	case u.Key != "" && u.Cert == "":
		return out, c.AtUpstream(named, "backend-key", errors.New("want backend_cert, the certificate it is of, with it"))
	}
	for _, f := range []struct {
		setting, file string
		to            *[]byte
	}{
		{"backend-ca", u.CA, &out.CA}, {"backend-cert", u.Cert, &out.Certificate}, {"backend-key", u.Key, &out.Key},
	} {
		if f.file == "" {
			continue
		}
		var err error
		if *f.to, err = os.ReadFile(f.file); err != nil {
			return out, c.AtUpstream(named, f.setting, err)
		}
	}
	if err := out.Check(); err != nil {
		return out, c.AtUpstream(named, blame(err), err)
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

// upstreamFiles are the files that upstreams are made from.
func upstreamFiles(c *config.Config) (files []string) {
	add := func(u *config.Upstream) {
		for _, file := range []string{u.CA, u.Cert, u.Key} {
			if file != "" {
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
