package fakeredis

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// version is the Redis that this one passes for.
const version = "7.0.15"

// sessionCommands are those that scripts may not call.
func sessionCommands() map[string]*command {
	return map[string]*command{
		"hello":  {run: hello, max: -1},
		"auth":   {run: auth, min: 1, max: 2},
		"client": {run: client, min: 1, max: -1},
		"select": {run: selectDB, min: 1, max: 1},
		"quit":   {run: func(*call) any { return status("OK") }},
		"info":   {run: info, max: -1},
		"config": {run: config, min: 1, max: -1},
		"role":   {run: role},
		"wait":   {run: wait, min: 2, max: 2},

		"script":     {run: script, min: 1, max: -1},
		"eval":       {run: eval, min: 2, max: -1},
		"eval_ro":    {run: eval, min: 2, max: -1},
		"evalsha":    {run: eval, min: 2, max: -1},
		"evalsha_ro": {run: eval, min: 2, max: -1},
	}
}

func ping(c *call) any {
	if len(c.args) > 0 {
		return c.args[0]
	}
	return status("PONG")
}

func timeNow(c *call) any {
	now := c.server.now
	return []any{strconv.FormatInt(now/1e6, 10), strconv.FormatInt(now%1e6, 10)}
}

// hello also takes AUTH: there is one user, who needs no password.
func hello(c *call) any {
	if len(c.args) > 0 {
		proto, err := strconv.Atoi(c.args[0])
		if err != nil || proto != 2 && proto != 3 {
			return fault("NOPROTO unsupported protocol version")
		}
		for i := 1; i < len(c.args); i++ {
			switch word := strings.ToLower(c.args[i]); {
			case word == "auth" && i+2 < len(c.args):
				if c.args[i+1] != "default" {
					return faultPassword
				}
				i += 2
			case word == "setname" && i+1 < len(c.args):
				i++
			default:
				return fault("ERR Syntax error in HELLO option '" + c.args[i] + "'")
			}
		}
		c.client.proto = proto
	}
	role := "master"
	if c.server.readOnly {
		role = "replica"
	}
	return pairs{
		"server", "redis", "version", version, "proto", int64(c.client.proto), "id", c.client.id,
		"mode", "standalone", "role", role, "modules",
		[]any{},
	}
}

const faultPassword = fault("WRONGPASS invalid username-password pair or user is disabled.")

func auth(c *call) any {
	switch {
	case len(c.args) == 1:
		return fault("ERR AUTH <password> called without any password configured for the default user. " +
			"Are you sure your configuration is correct?")
	case c.args[0] != "default":
		return faultPassword
	}
	return status("OK")
}

func selectDB(c *call) any {
	if c.args[0] != "0" {
		return fault("ERR DB index is out of range")
	}
	return status("OK")
}

func client(c *call) any {
	switch sub := strings.ToLower(c.args[0]); sub {
	case "id":
		return c.client.id
	case "tracking":
		return c.track()
	case "setname", "no-evict":
		return status("OK")
	default: // among them what this version does not have: SETINFO, NO-TOUCH
		return fault(fmt.Sprintf("ERR unknown subcommand '%.128s'. Try CLIENT HELP.", c.args[0]))
	}
}

// track is CLIENT TRACKING, without broadcasts, redirections and opting.
func (c *call) track() any {
	if len(c.args) < 2 {
		return arity("client|tracking")
	}
	noLoop := false
	for _, option := range c.args[2:] {
		if !strings.EqualFold(option, "noloop") {
			return faultSyntax
		}
		noLoop = true
	}
	switch strings.ToLower(c.args[1]) {
	case "on":
		c.client.tracking, c.client.noLoop = true, noLoop
	case "off":
		c.client.tracking, c.client.noLoop = false, false
	default:
		return faultSyntax
	}
	return status("OK")
}

// info has what is looked at.
func info(c *call) any {
	s := c.server
	role := "master"
	if s.readOnly {
		role = "slave"
	}
	sections := []struct{ name, text string }{
		{"Server", "redis_version:" + version + "\r\nredis_mode:standalone\r\nrun_id:" + s.runID + "\r\n"},
		{"Clients", fmt.Sprintf("connected_clients:%d\r\n", len(s.conns))},
		{"Replication", "role:" + role + "\r\nconnected_slaves:0\r\nmaster_replid:" + s.replID + "\r\n"},
	}
	var b strings.Builder
	for _, section := range sections {
		if len(c.args) > 0 && !containsFold(c.args, section.name) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + section.name + "\r\n" + section.text)
	}
	return b.String()
}

func containsFold(all []string, word string) bool {
	for _, s := range all {
		if strings.EqualFold(s, word) {
			return true
		}
	}
	return false
}

// config shows the settings that rstore asks for.
func config(c *call) any {
	if !strings.EqualFold(c.args[0], "get") {
		return fault(fmt.Sprintf("ERR unknown subcommand '%.128s'. Try CONFIG HELP.", c.args[0]))
	}
	most := "0"
	if c.server.full {
		most = "1"
	}
	settings := [][2]string{
		{"maxmemory", most}, {"maxmemory-policy", "noeviction"}, {"appendonly", "yes"}, {"appendfsync", "always"}, {"save", ""},
	}
	found := pairs{}
	for _, setting := range settings {
		for _, pattern := range c.args[1:] {
			if ok, err := path.Match(strings.ToLower(pattern), setting[0]); ok && err == nil {
				found = append(found, setting[0], setting[1])
				break
			}
		}
	}
	return found
}

func role(c *call) any {
	if c.server.readOnly {
		return []any{"slave", "127.0.0.1", int64(6379), "connected", int64(0)}
	}
	return []any{"master", int64(0), []any{}}
}

// wait is for replicas, of which there is none: who waits for one waits until the end.
func wait(c *call) any {
	replicas, err1 := strconv.ParseInt(c.args[0], 10, 64)
	ms, err2 := strconv.ParseInt(c.args[1], 10, 64)
	switch {
	case err1 != nil || err2 != nil:
		return faultInteger
	case ms < 0:
		return fault("ERR timeout is negative")
	case c.server.readOnly:
		return fault("ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica " +
			"is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.")
	case replicas <= 0:
		return int64(0)
	case ms == 0:
		return time.Duration(1<<63 - 1)
	}
	return time.Duration(ms) * time.Millisecond
}
