package fakeredis

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// text is a key's string, or why there is none.
func (c *call) text(key string) (e *entry, wrong any) {
	e = c.server.look(key)
	if e != nil && e.hash != nil {
		return nil, faultType
	}
	return e, nil
}

func get(c *call) any {
	e, wrong := c.text(c.args[0])
	if e == nil {
		return wrong
	}
	return e.text
}

func getRange(c *call) any {
	start, err1 := strconv.Atoi(c.args[1])
	end, err2 := strconv.Atoi(c.args[2])
	if err1 != nil || err2 != nil {
		return faultInteger
	}
	e, wrong := c.text(c.args[0])
	if wrong != nil {
		return wrong
	}
	if e == nil {
		return ""
	}
	n := len(e.text)
	if start < 0 && end < 0 && start > end {
		return ""
	}
	if start < 0 {
		start = max(0, n+start)
	}
	if end < 0 {
		end = max(0, n+end)
	}
	if start >= n || start > end {
		return ""
	}
	return e.text[start:min(n, end+1)]
}

func mget(c *call) any {
	all := make([]any, len(c.args))
	for i, key := range c.args {
		if e, _ := c.text(key); e != nil {
			all[i] = e.text
		}
	}
	return all
}

func strlen(c *call) any {
	e, wrong := c.text(c.args[0])
	switch {
	case wrong != nil:
		return wrong
	case e == nil:
		return int64(0)
	}
	return int64(len(e.text))
}

// options are those of SET and GETEX.
type options struct {
	onlyNew, onlyOld bool
	keep, persist    bool
	word, number     string // how it is said when it expires; empty: never
}

// parse reads them.
func (c *call) parse(args []string) (o options, wrong any) {
	timed := 0
	for i := 0; i < len(args); i++ {
		switch word := strings.ToLower(args[i]); word {
		case "nx":
			o.onlyNew = true
		case "xx":
			o.onlyOld = true
		case "keepttl":
			o.keep = true
			timed++
		case "persist":
			o.persist = true
			timed++
		case "ex", "px", "exat", "pxat":
			if i++; i == len(args) {
				return o, faultSyntax
			}
			o.word, o.number = word, args[i]
			timed++
		default:
			return o, faultSyntax
		}
	}
	if timed > 1 || o.onlyNew && o.onlyOld {
		return o, faultSyntax
	}
	return o, nil
}

// until is when something expires; 0 for never.
func (c *call) until(o options) (ms int64, wrong any) {
	if o.word == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(o.number, 10, 64)
	switch {
	case err != nil:
		return 0, faultInteger
	case n <= 0 || n > 1<<53:
		return 0, fault("ERR invalid expire time in '" + c.name + "' command")
	}
	if strings.HasPrefix(o.word, "e") {
		n *= 1000
	}
	if !strings.HasSuffix(o.word, "at") {
		n += c.server.ms()
	}
	return n, nil
}

func set(c *call) any {
	o, wrong := c.parse(c.args[2:])
	switch {
	case wrong != nil:
		return wrong
	case o.persist:
		return faultSyntax
	}
	expires, wrong := c.until(o)
	if wrong != nil {
		return wrong
	}
	before := c.server.look(c.args[0])
	if o.onlyNew && before != nil || o.onlyOld && before == nil {
		return nil
	}
	if o.keep && before != nil {
		expires = before.expires
	}
	c.server.put(c.args[0], &entry{text: c.args[1], expires: expires})
	return status("OK")
}

func getEx(c *call) any {
	o, wrong := c.parse(c.args[1:])
	switch {
	case wrong != nil:
		return wrong
	case o.keep || o.onlyNew || o.onlyOld:
		return faultSyntax
	}
	e, wrong := c.text(c.args[0])
	if e == nil {
		return wrong
	}
	expires, wrong := c.until(o)
	switch {
	case wrong != nil:
		return wrong
	case expires != 0 && expires <= c.server.ms():
		c.server.remove(c.args[0])
	case expires != 0:
		e.expires = expires
		c.server.put(c.args[0], e)
	case o.persist && e.expires != 0:
		e.expires = 0
		c.server.changed(c.args[0])
	}
	return e.text
}

// fields is a key's hash; nil if there is none.
func (c *call) fields() (hash map[string]string, wrong any) {
	e := c.server.look(c.args[0])
	switch {
	case e == nil:
		return nil, nil
	case e.hash == nil:
		return nil, faultType
	}
	return e.hash, nil
}

func hget(c *call) any {
	hash, wrong := c.fields()
	if value, ok := hash[c.args[1]]; ok {
		return value
	}
	return wrong
}

func hgetAll(c *call) any {
	hash, wrong := c.fields()
	if wrong != nil {
		return wrong
	}
	all := pairs{}
	for _, name := range slices.Sorted(maps.Keys(hash)) {
		all = append(all, name, hash[name])
	}
	return all
}

func hset(c *call) any {
	if len(c.args)%2 == 0 {
		return arity(c.name)
	}
	hash, wrong := c.fields()
	if wrong != nil {
		return wrong
	}
	if hash == nil {
		hash = map[string]string{}
		c.server.db[c.args[0]] = &entry{hash: hash}
	}
	added := int64(0)
	for pair := range slices.Chunk(c.args[1:], 2) {
		if _, has := hash[pair[0]]; !has {
			added++
		}
		hash[pair[0]] = pair[1]
	}
	c.server.changed(c.args[0])
	return added
}

func hdel(c *call) any {
	hash, wrong := c.fields()
	if wrong != nil {
		return wrong
	}
	gone := int64(0)
	for _, name := range c.args[1:] {
		if _, has := hash[name]; has {
			delete(hash, name)
			gone++
		}
	}
	switch {
	case gone > 0 && len(hash) == 0:
		c.server.remove(c.args[0])
	case gone > 0:
		c.server.changed(c.args[0])
	}
	return gone
}
