package fakeredis

import (
	"cmp"
	"hash/fnv"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func del(c *call) any {
	n := int64(0)
	for _, key := range c.args {
		if c.server.look(key) != nil {
			c.server.remove(key)
			n++
		}
	}
	return n
}

func exists(c *call) any {
	n := int64(0)
	for _, key := range c.args {
		if c.server.look(key) != nil {
			n++
		}
	}
	return n
}

func rename(c *call) any {
	from, to := c.args[0], c.args[1]
	e := c.server.look(from)
	switch {
	case e == nil:
		return fault("ERR no such key")
	case from == to:
		return status("OK")
	}
	c.server.look(to)
	c.server.remove(from)
	c.server.put(to, e)
	return status("OK")
}

func persist(c *call) any {
	e := c.server.look(c.args[0])
	if e == nil || e.expires == 0 {
		return int64(0)
	}
	e.expires = 0
	c.server.changed(c.args[0])
	return int64(1)
}

func pexpire(c *call) any {
	life, err := strconv.ParseInt(c.args[1], 10, 64)
	if err != nil {
		return faultInteger
	}
	e := c.server.look(c.args[0])
	switch {
	case e == nil:
		return int64(0)
	case life <= 0:
		c.server.remove(c.args[0])
	default:
		e.expires = c.server.ms() + life
		c.server.put(c.args[0], e)
	}
	return int64(1)
}

func pttl(c *call) any {
	switch e := c.server.look(c.args[0]); {
	case e == nil:
		return int64(-2)
	case e.expires == 0:
		return int64(-1)
	default:
		return max(0, e.expires-c.server.ms())
	}
}

func dbSize(c *call) any { return int64(len(c.server.db)) }

func flushAll(c *call) any {
	c.server.flush()
	return status("OK")
}

// scan goes through the keys in the order of their hashes: the cursor is the least one that
// has not been shown, so that what is there all the time is shown, whatever comes and goes.
func scan(c *call) any {
	cursor, err := strconv.ParseUint(c.args[0], 10, 64)
	if err != nil {
		return fault("ERR invalid cursor")
	}
	matches, count := regexp.MustCompile(""), 10
	for i := 1; i < len(c.args); i += 2 {
		if i+1 == len(c.args) {
			return faultSyntax
		}
		switch strings.ToLower(c.args[i]) {
		case "match":
			if matches, err = glob(c.args[i+1]); err != nil {
				return faultSyntax
			}
		case "count":
			if count, err = strconv.Atoi(c.args[i+1]); err != nil || count < 1 {
				return faultInteger
			}
		default:
			return faultSyntax
		}
	}
	type hashed struct {
		hash uint64
		key  string
	}
	var left []hashed
	for key := range c.server.db {
		if h := hashOf(key); h >= cursor {
			left = append(left, hashed{h, key})
		}
	}
	slices.SortFunc(left, func(a, b hashed) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.key, b.key)) })
	next, shown := "0", []any{}
	for i, k := range left {
		if i >= count && k.hash != left[i-1].hash {
			next = strconv.FormatUint(k.hash, 10)
			break
		}
		if matches.MatchString(k.key) && c.server.look(k.key) != nil {
			shown = append(shown, k.key)
		}
	}
	return []any{next, shown}
}

// hashOf is never 0, with which a scan begins and ends.
func hashOf(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	return max(1, h.Sum64())
}

// glob is a pattern of names as Redis has them.
func glob(pattern string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString("(?s)^")
	for i := 0; i < len(pattern); i++ {
		switch ch := pattern[i]; {
		case ch == '*':
			b.WriteString(".*")
		case ch == '?':
			b.WriteByte('.')
		case ch == '[' && strings.Contains(pattern[i:], "]"):
			end := i + strings.IndexByte(pattern[i:], ']')
			b.WriteString(pattern[i : end+1])
			i = end
		case ch == '\\' && i+1 < len(pattern):
			i++
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	return regexp.Compile(b.String() + "$") //nolint:wrapcheck // the caller says what is wrong
}
