// Command rival runs one of the proxies that IdemProxy is measured against:
//
//	rival static   -listen :1  -size 286            answers from memory: the ceiling
//	rival bare     -listen :1  -backend host:port   fasthttp server and HostClient, nothing else
//	rival httputil -listen :1  -backend host:port   net/http/httputil.ReverseProxy
//	rival textbook -listen :1  -backend host:port -redis host:port
//	               net/http, GET, SETNX, SET: the design as first described
//	rival floor-redis -listen :1 -backend host:port -redis host:port
//	               bare, and two plain SETs: see floor.go
//	rival floor-scripts -listen :1 -backend host:port -redis host:port
//	               the same by two scripts: see calls.go
//	rival floor-get -listen :1 -redis host:port -size 286
//	               answers with what one plain GET returns
//	rival floor-disk  -listen :1 -backend host:port -dir DIR
//	               bare, and two appends with a shared fdatasync each
//	rival floor-postgres -listen :1 -backend host:port -postgres URL
//	               bare, and two statements of one row each
//	rival fiber    -listen :1  -backend host:port   fiber with its idempotency middleware, in memory
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/idempotency"
	"github.com/redis/rueidis"
	"github.com/valyala/fasthttp"
)

type options struct {
	listen, backend, redis, postgres, dir string
	size                                  int
}

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("which rival? static, bare, httputil, textbook, floor-redis, floor-scripts, floor-get, floor-disk, floor-postgres or fiber"))
	}
	var o options
	f := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address to listen on")
	f.StringVar(&o.backend, "backend", "127.0.0.1:9000", "backend")
	f.StringVar(&o.redis, "redis", "127.0.0.1:6379", "Redis, for textbook and floors")
	f.StringVar(&o.postgres, "postgres", "", "URL of PostgreSQL, for floor-postgres")
	f.StringVar(&o.dir, "dir", "", "directory, for floor-disk")
	f.IntVar(&o.size, "size", 286, "bytes of the answer, for static and floor-get")
	_ = f.Parse(os.Args[2:])
	run, ok := map[string]func(net.Listener, options) error{
		"static": static, "bare": bare, "httputil": reverseProxy, "textbook": textbook, "fiber": withFiber,
		"floor-redis": floorRedis, "floor-disk": floorDisk, "floor-scripts": floorScripts, "floor-get": floorGet, "floor-postgres": floorPostgres,
	}[os.Args[1]]
	if !ok {
		fail(fmt.Errorf("there is no rival %q", os.Args[1]))
	}
	ln, err := net.Listen("tcp", o.listen)
	if err != nil {
		fail(err)
	}
	fail(run(ln, o))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "rival:", err)
		os.Exit(1)
	}
}

func static(ln net.Listener, o options) error {
	body := bytes.Repeat([]byte("x"), o.size)
	s := &fasthttp.Server{NoDefaultDate: true, NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType("application/json")
		ctx.Response.SetBodyRaw(body)
	}}
	return s.Serve(ln)
}

func bare(ln net.Listener, o options) error {
	client := &fasthttp.HostClient{Addr: o.backend, MaxConns: 4096, DisablePathNormalizing: true}
	s := &fasthttp.Server{NoDefaultDate: true, NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Request.Header.Del("Connection")
		if err := client.Do(&ctx.Request, &ctx.Response); err != nil {
			ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			return
		}
		ctx.Response.Header.Del("Connection")
	}}
	return s.Serve(ln)
}

func reverseProxy(ln net.Listener, o options) error {
	target := &url.URL{Scheme: "http", Host: o.backend}
	p := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 4096},
	}
	return (&http.Server{Handler: p, ReadHeaderTimeout: time.Minute}).Serve(ln)
}

// stored is what the textbook keeps, as JSON.
type stored struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// textbook is the design as first described: GET the key, SETNX a lock, forward,
// SET the answer. It has the races that IdemProxy has not; only its speed is of
// interest here.
func textbook(ln net.Listener, o options) error {
	redis, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{o.redis}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4096}}
	handler := func(w http.ResponseWriter, r *http.Request) {
		ctx, key := r.Context(), r.Header.Get("Idempotency-Key")
		if text, err := redis.Do(ctx, redis.B().Get().Key("resp:"+key).Build()).AsBytes(); err == nil {
			var s stored
			if json.Unmarshal(text, &s) == nil {
				write(w, s)
				return
			}
		}
		locked := redis.B().Set().Key("lock:" + key).Value("1").Nx().Ex(30 * time.Second).Build()
		if err := redis.Do(ctx, locked).Error(); err != nil {
			w.WriteHeader(http.StatusConflict)
			return
		}
		s, err := forward(ctx, client, o.backend, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		text, _ := json.Marshal(s)
		redis.Do(ctx, redis.B().Set().Key("resp:"+key).Value(rueidis.BinaryString(text)).Ex(24*time.Hour).Build())
		redis.Do(ctx, redis.B().Del().Key("lock:"+key).Build())
		write(w, s)
	}
	return (&http.Server{Handler: http.HandlerFunc(handler), ReadHeaderTimeout: time.Minute}).Serve(ln)
}

func forward(ctx context.Context, c *http.Client, backend string, r *http.Request) (stored, error) {
	out, err := http.NewRequestWithContext(ctx, r.Method, "http://"+backend+r.URL.RequestURI(), r.Body)
	if err != nil {
		return stored{}, err
	}
	out.Header = r.Header.Clone()
	resp, err := c.Do(out)
	if err != nil {
		return stored{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return stored{resp.StatusCode, resp.Header, body}, err
}

func write(w http.ResponseWriter, s stored) {
	for name, values := range s.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(s.Status)
	_, _ = w.Write(s.Body)
}

func withFiber(ln net.Listener, o options) error {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(idempotency.New(idempotency.Config{
		KeyHeader:         "Idempotency-Key",
		KeyHeaderValidate: func(k string) error { return keyError(k) },
		Lifetime:          time.Hour,
	}))
	client := &fasthttp.HostClient{Addr: o.backend, MaxConns: 4096}
	app.Use(func(c *fiber.Ctx) error {
		c.Request().Header.Del("Connection")
		err := client.Do(c.Request(), c.Response())
		c.Response().Header.Del("Connection")
		return err
	})
	return app.Listener(ln)
}

func keyError(k string) error {
	if strings.TrimSpace(k) == "" {
		return errors.New("empty key")
	}
	return nil
}
