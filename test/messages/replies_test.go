package messages_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// replies are statuses and bodies.
func replies() []func(*rand.Rand) piece {
	status := func(r *rand.Rand) piece {
		n := oneOf(r, 201, 204, 205, 400, 404, 409, 410, 422, 500, 501, 503, 425, 304, 206, 300, 303, 401, 418, 507, 599, 999)
		return piece{fmt.Sprintf("answer %d", n), func(x *exchange) { x.reply.status = n }}
	}
	large := func(r *rand.Rand) piece {
		n := oneOf(r, 1<<10, 3<<10, 20<<10, 100<<10)
		return piece{fmt.Sprintf("answer of %d bytes", n), func(x *exchange) { x.reply.body = strings.Repeat("0123456789abcdef", n/16) }}
	}
	packed := func(r *rand.Rand) piece {
		n := oneOf(r, 100, 10<<10, 3<<20, 3<<20)
		return piece{fmt.Sprintf("answer of %d bytes that were compressed", n), func(x *exchange) {
			x.reply.body, x.reply.zipped = strings.Repeat("a", n), true
		}}
	}
	typed := func(r *rand.Rand) piece {
		kind := oneOf(r, "text/html; charset=utf-8", "application/json", "image/png")
		return piece{"answer of type " + kind, func(x *exchange) { x.reply.kind = kind }}
	}
	return []func(*rand.Rand) piece{status, large, large, packed, typed, events, events}
}

// events is a stream of server-sent events.
func events(r *rand.Rand) piece {
	end, n := oneOf(r, "\n", "\r\n", "\r"), 2+r.IntN(4)
	return piece{fmt.Sprintf("answer of %d events, lines end in %q", n, end), func(x *exchange) {
		var b strings.Builder
		for i := range n {
			b.WriteString(fmt.Sprintf("id: %d", i) + end + fmt.Sprintf("data: event %d", i) + end + end)
		}
		x.reply.kind, x.reply.body, x.reply.pieces = "text/event-stream", b.String(), n
	}}
}

func replyFields() []func(*rand.Rand) piece {
	return []func(*rand.Rand) piece{
		told("Idempotency-Policy", "no-store", "retention=60", "retention=60, no-store", "other=1", ""),
		told("Idempotency-Policy", "no-store", "retention=60"),
		told("Cache-Control", "no-store", "no-transform", "max-age=1", "private"), told("Cache-Control", "no-transform", "max-age=2"),
		told("Date", "Mon, 02 Jan 2006 15:04:05 GMT"), told("Set-Cookie", "a=b", "c=d"), told("ETag", `"1"`, `W/"1"`),
		told("X-Repeat", "1", "2", ""), told("Connection", "X-Hop"), told("X-Hop", "1"), told("Keep-Alive", "timeout=5"),
		told("Vary", "Accept", "*"), told("Access-Control-Allow-Origin", "*"), told("Content-Encoding", "x-own", "x-other"), told("Location", "/elsewhere"),
		told("x-lower", "1"), told("Warning", "199 - x"), told("Link", "</a>; rel=next", "</b>; rel=prev"),
		just("answer Server", func(x *exchange) { x.reply.server = true }), told("Content-Language", "en"), told("Retry-After", "1"), told("X-Request-Id", "theirs"), told("Idempotent-Replayed", "true"),
	}
}

func replyFramings() []func(*rand.Rand) piece {
	framed := func(r *rand.Rand) piece {
		by := oneOf[byte](r, 'c', 'c', 'e')
		return piece{fmt.Sprintf("answer framed by %c", by), func(x *exchange) { x.reply.framing = by }}
	}
	cut := just("answer breaks off", func(x *exchange) { x.reply.cut = true })
	pieces := func(r *rand.Rand) piece {
		n := 2 + r.IntN(3)
		return piece{fmt.Sprintf("answer in %d pieces", n), func(x *exchange) { x.reply.pieces = n }}
	}
	return []func(*rand.Rand) piece{
		framed, framed, framed, pieces, cut, just("answer to come", func(x *exchange) { x.reply.interim = true }),
		just("answer with a trailer", func(x *exchange) { x.reply.framing, x.reply.trailer = 'c', true }),
		just("answer whose lines end in LF", func(x *exchange) { x.reply.lineEnd = "\n" }),
		just("answer whose lines are folded", func(x *exchange) { x.reply.lineEnd = "\r\n \r\n" }),
	}
}

// joins has the request come again while the first one is answered, in pieces.
func joins(r *rand.Rand) piece {
	last, mixes := oneOf(r, "", "0", "1", "9"), r.IntN(3) == 0
	return piece{fmt.Sprintf("joined by who has event %q (or by its sibling: %t)", last, mixes), func(x *exchange) {
		x.joins, x.mixes, x.last = true, mixes, last
		x.reply.pieces = max(2, x.reply.pieces)
	}}
}

// storms have the request come many times over one connection.
func storms() []func(*rand.Rand) piece {
	return []func(*rand.Rand) piece{just("ten times more, over one connection", func(x *exchange) { x.storm = 10 })}
}

// siblings are other requests with the same key.
func siblings(theme string) []func(*rand.Rand) piece {
	change := func(name string, f func(*exchange)) func(*rand.Rand) piece {
		return just("sibling: "+name, func(x *exchange) { x.sibling = f })
	}
	around := []func(*rand.Rand) piece{
		change("preamble", func(x *exchange) { x.content.preamble += "other\r\n" }),
		change("epilogue", func(x *exchange) { x.content.epilogue += "\r\nother" }),
		change("another word around the parts", func(x *exchange) {
			c := &x.content
			c.preamble, c.epilogue = strings.ReplaceAll(c.preamble, "word", "other"), strings.ReplaceAll(c.epilogue, "word", "other")
		}),
	}
	all := []func(*rand.Rand) piece{
		change("another amount", func(x *exchange) { x.value(0, "78") }),
		change("an amount of another spelling", func(x *exchange) { x.value(0, "1e1") }),
		change("an amount that differs a little", func(x *exchange) { x.value(0, "9007199254740993") }),
		change("one more value", func(x *exchange) { x.content.values = append(x.content.values, pair{"more", "1"}) }),
		change("values in another order", func(x *exchange) { slices.Reverse(x.content.values) }),
		change("space", func(x *exchange) { x.content.space += " " }),
		change("another boundary", func(x *exchange) { x.content.boundary = "b2" }),
		change("another method", func(x *exchange) { x.method = map[bool]string{true: "PATCH", false: "PUT"}[x.method == "PUT"] }),
		change("another path", func(x *exchange) { x.target = strings.Replace(x.target, "/p", "/q", 1) }),
		change("another query", func(x *exchange) { x.ask("y", "1") }),
		change("another host", func(x *exchange) {
			x.target, x.host = strings.Replace(x.target, x.host, "other.example", 1), "other.example"
		}),
		change("another caller", func(x *exchange) { x.add("Authorization", "Bearer c") }),
		change("in chunks", func(x *exchange) { x.chunks = []int{2} }),
		change("compressed", func(x *exchange) { x.content.zipped = !x.content.zipped }),
		change("a part is missing", func(x *exchange) { x.content.left = 90 }),
	}
	if theme == "multipart" {
		all = append(all, slices.Repeat(around, 4)...)
	}
	return append(all, around...)
}

// value replaces one, if the body has it.
func (x *exchange) value(i int, value string) {
	if i < len(x.content.values) {
		x.content.values = slices.Clone(x.content.values)
		x.content.values[i].value = value
	}
}

// clone is an exchange whose pieces can be changed.
func (x *exchange) clone() *exchange {
	other := *x
	other.fields, other.types = slices.Clone(x.fields), slices.Clone(x.types)
	other.content.values = slices.Clone(x.content.values)
	return &other
}
