package messages_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
)

// piece is a part of an exchange that clients or backends are known to send.
type piece struct {
	name string
	put  func(*exchange)
}

// group has pieces of one kind, of which some are taken.
type group struct {
	percent int // how probable it is that one is taken, and another one, and so on
	most    int
	of      []func(*rand.Rand) piece
}

// just is a piece without a choice.
func just(name string, put func(*exchange)) func(*rand.Rand) piece {
	return func(*rand.Rand) piece { return piece{name, put} }
}

// line is a piece that adds one of some lines to the request.
func line(name string, all ...string) func(*rand.Rand) piece {
	return func(r *rand.Rand) piece {
		value := oneOf(r, all...)
		return piece{name + ": " + value, func(x *exchange) { x.add(name, strings.ReplaceAll(value, "{k}", x.key)) }}
	}
}

// told is line for the answer.
func told(name string, all ...string) func(*rand.Rand) piece {
	return func(r *rand.Rand) piece {
		value := oneOf(r, all...)
		return piece{"answer " + name + ": " + value, func(x *exchange) { x.reply.add(name, value) }}
	}
}

// groups is the alphabet, in the order in which pieces are put.
// theme is the kind of body that most clients of one service send.
func groups(theme string) []group {
	return []group{
		{40, 1, methods()},
		{80, 1, bodies(theme)},
		{75, 2, keys()},
		{35, 2, doubles()},
		{40, 1, targets()},
		{30, 1, []func(*rand.Rand) piece{types, moreTypes}},
		{40, 1, cuts()},
		{60, 3, fields()},
		{25, 1, []func(*rand.Rand) piece{line("Accept-Encoding", "identity", "identity", "gzip", "br, gzip;q=0", "*")}},
		{30, 1, framings()},
		{15, 1, ends()},
		{60, 1, replies()},
		{60, 3, replyFields()},
		{40, 1, replyFramings()},
		{12, 1, behinds()},
		{20, 1, []func(*rand.Rand) piece{joins}},
		{15, 1, []func(*rand.Rand) piece{just("late", func(x *exchange) { x.late = true })}},
		{15, 1, storms()},
		{60, 1, siblings(theme)},
	}
}

// draw makes the pieces of an exchange.
func draw(r *rand.Rand, theme string) (all []piece) {
	for _, g := range groups(theme) {
		for n := 0; n < g.most && r.IntN(100) < g.percent; n++ {
			all = append(all, oneOf(r, g.of...)(r))
		}
	}
	return all
}

func compose(id string, all []piece) *exchange {
	x := basic(id)
	for _, p := range all {
		p.put(x)
	}
	return x
}

func methods() (all []func(*rand.Rand) piece) {
	for _, m := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		all = append(all, just("method "+m, func(x *exchange) { x.method = m }))
	}
	return append(all, all[0])
}

// kinds are those of bodies.
func kinds() []string { return []string{"json", "form", "multipart", "graphql", "document", "text"} }

func bodies(theme string) (all []func(*rand.Rand) piece) {
	for _, kind := range append(kinds(), theme, theme, theme, theme, theme, theme) {
		all = append(all, func(r *rand.Rand) piece {
			amount, zipped := fmt.Sprint(r.IntN(9)), r.IntN(8) == 0
			return piece{"body " + kind, func(x *exchange) {
				x.content = content{kind: kind, values: []pair{{"amount", amount}}, boundary: "b", zipped: zipped}
			}}
		})
	}
	return all
}

func keys() []func(*rand.Rand) piece {
	inBody := just("key in the body", func(x *exchange) {
		x.content.values = append(x.content.values, pair{keyName, `"` + x.key + `"`})
	})
	return []func(*rand.Rand) piece{
		line("Idempotency-Key", "{k}", "{k}", `"{k}"`), line("X-Idempotency-Key", "{k}"), inBody, inBody,
		just("key in the query", func(x *exchange) { x.ask(keyName, x.key) }),
		just("key in a document in the query", func(x *exchange) {
			x.ask("query", fmt.Sprintf(`{ pay @idempotent(key: "%s") }`, x.key))
		}),
	}
}

// ask adds a field of the query.
func (x *exchange) ask(name, value string) {
	sign := "?"
	if strings.Contains(x.target, "?") {
		sign = "&"
	}
	x.target += sign + name + "=" + url.QueryEscape(value)
}

// doubles say something once more, and perhaps something else.
func doubles() []func(*rand.Rand) piece {
	return []func(*rand.Rand) piece{
		line("Idempotency-Key", "{k}", "{k}-2", ""),
		just("another key in the body", func(x *exchange) {
			x.content.values = append(x.content.values, pair{keyName, `"` + x.key + `-2"`})
		}),
		just("another amount in the body", func(x *exchange) { x.content.values = append(x.content.values, pair{"amount", "77"}) }),
		just("another key in the query", func(x *exchange) { x.ask(keyName, x.key+"-2") }),
		just("another document in the query", func(x *exchange) {
			x.ask("query", fmt.Sprintf(`{ pay @idempotent(key: "%s-2") }`, x.key))
		}),
		just("a document without a key in the query", func(x *exchange) { x.ask("query", "{ pay }") }),
	}
}

func targets() (all []func(*rand.Rand) piece) {
	for _, more := range []string{"?x=1", "/a%2Fb", "/./b", "//c", "#part", "?q=1#part", "?q=%23", "/a;v=1", "?a[]=1&a[]=2", "/%7e", "/a+b"} {
		all = append(all, just("target "+more, func(x *exchange) {
			path, query, _ := strings.Cut(x.target, "?")
			switch {
			case query == "":
				x.target = path + more
			case strings.HasPrefix(more, "?"):
				x.target += "&" + more[1:]
			default:
				x.target = path + more + "?" + query
			}
		}))
	}
	return append(all, just("target with its host", func(x *exchange) { x.target = "http://" + x.host + x.target }))
}

func types(r *rand.Rand) piece {
	t := oneOf(r, "application/json", "application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded",
		"multipart/form-data; boundary=b", "multipart/mixed; boundary=b", `multipart/form-data; boundary="b"`, "application/octet-stream")
	return piece{"type " + t, func(x *exchange) { x.types = []string{t} }}
}

// moreTypes adds a line to what there is.
func moreTypes(r *rand.Rand) piece {
	t, first := oneOf(r, "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"), r.IntN(2) == 0
	return piece{fmt.Sprintf("one more type %s (first: %t)", t, first), func(x *exchange) {
		if all := x.mediaTypes(); first {
			x.types = append([]string{t}, all...)
		} else {
			x.types = append(slices.Clone(all), t)
		}
	}}
}

func cuts() []func(*rand.Rand) piece {
	return []func(*rand.Rand) piece{
		func(r *rand.Rand) piece {
			n := 1 + r.IntN(99)
			return piece{fmt.Sprintf("%d %% of the body", n), func(x *exchange) { x.content.left = n }}
		},
		around("preamble", func(c *content, text string) { c.preamble = text + lineEnd }),
		around("epilogue", func(c *content, text string) { c.epilogue = lineEnd + text }),
		just("space", func(x *exchange) { x.content.space = " " }),
	}
}

// around puts something around the parts, which may look like a delimiter.
func around(name string, put func(*content, string)) func(*rand.Rand) piece {
	return func(r *rand.Rand) piece {
		text := oneOf(r, "word", "--bword", "--b word", "--b--word", "--b\nword", "word\n--b\n\n--b--\n", "word--b")
		return piece{fmt.Sprintf("%s %q", name, text), func(x *exchange) { put(&x.content, text) }}
	}
}

func fields() []func(*rand.Rand) piece {
	return []func(*rand.Rand) piece{
		line("Prefer", "respond-async, wait=20", "respond-async, wait=20", "wait=20", "return=minimal", "handling=lenient", "respond-async"),
		line("X-Repeat", "1", "2", ""), line("Cookie", "a=b", "c=d"), line("Authorization", "Bearer {k}", "Bearer {k}", "Basic {k}"),
		line("Connection", "X-Hop", "keep-alive, X-Hop", "Idempotency-Key"), line("X-Hop", "1"), line("TE", "trailers"),
		line("X-Forwarded-For", "10.0.0.1"), line("Via", "1.0 fred"), line("Range", "bytes=0-1"), line("If-None-Match", `"1"`),
		line("Last-Event-ID", "1", "2"), line("Origin", "https://page.example"), line("Cache-Control", "no-cache", "no-transform"),
		line("x-lower", "1"), line("X_Under", "1"), line("Accept", "text/html", "*/*;q=0.1"), line("Proxy-Authorization", "x"),
		line("User-Agent", "tests"), line("Expect", "100-continue"), line("Trailer", "X-Last"), line("Upgrade", "h2c"),
		line("Content-Language", "en", "de"), line("X-HTTP-Method-Override", "DELETE"), line("Content-Digest", "sha-256=:x:"),
		line("Forwarded", "for=10.0.0.1"), line("X-Original-URL", "/q"), line("Idempotency_Key", "{k}"), line("Idempotency-Attempt", "9"),
		line("Pragma", "no-cache"), line("X-Empty", ""), line("X-Long", strings.Repeat("long ", 300)), line("If-Match", `"1"`), line("Traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"),
	}
}

func framings() []func(*rand.Rand) piece {
	chunked := func(r *rand.Rand) piece {
		n := oneOf(r, 1, 3, 10, 4096)
		return piece{fmt.Sprintf("chunks of %d", n), func(x *exchange) { x.chunks = []int{n} }}
	}
	length := func(r *rand.Rand) piece {
		all := oneOf(r, []string{"1x"}, []string{"1", "2"}, []string{"+1"}, []string{"-1"}, []string{"9999999999"}, []string{"1", "1"}, []string{"1, 1"}, []string{""})
		return piece{fmt.Sprintf("lengths %q", all), func(x *exchange) { x.lengths = all }}
	}
	old := just("HTTP/1.0", func(x *exchange) { x.version = "HTTP/1.0" })
	return []func(*rand.Rand) piece{chunked, chunked, length, old}
}

// ends have a line end in LF alone.
func ends() []func(*rand.Rand) piece {
	return []func(*rand.Rand) piece{
		just("LF behind the request line", func(x *exchange) { x.startEnd = "\n" }),
		just("LF behind the last field", func(x *exchange) {
			if n := len(x.fields); n > 0 {
				x.fields[n-1].end = "\n"
			}
		}),
		just("LF between chunks", func(x *exchange) { x.chunkEnd = "\n" }),
	}
}
