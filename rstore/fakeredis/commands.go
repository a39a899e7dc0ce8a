package fakeredis

import (
	"fmt"
	"strings"
)

// call is a command that is run, for a client or for a script of its.
type call struct {
	server *Server
	client *conn
	name   string
	said   string // the name as the client wrote it
	args   []string
	script *running // nil: it is the client's own
}

// command is how a command is run.
type command struct {
	run  func(*call) any
	min  int // arguments
	max  int // -1: as many as one likes
	keys int // how many of its arguments are keys, from the first; -1: all

	reads    bool // a client that tracks is told when what it read changes
	writes   bool
	grows    bool // it is refused when memory is full
	noScript bool
}

const (
	faultArity    = fault("ERR wrong number of arguments for '%s' command")
	faultSyntax   = fault("ERR syntax error")
	faultInteger  = fault("ERR value is not an integer or out of range")
	faultType     = fault("WRONGTYPE Operation against a key holding the wrong kind of value")
	faultReadOnly = fault("READONLY You can't write against a read only replica.")
	faultFull     = fault("OOM command not allowed when used memory > 'maxmemory'.")
)

// commands are all that there are.
func commands() map[string]*command {
	all := map[string]*command{
		"get":      {run: get, min: 1, max: 1, keys: 1, reads: true},
		"getrange": {run: getRange, min: 3, max: 3, keys: 1, reads: true},
		"mget":     {run: mget, min: 1, max: -1, keys: -1, reads: true},
		"strlen":   {run: strlen, min: 1, max: 1, keys: 1, reads: true},
		"set":      {run: set, min: 2, max: -1, keys: 1, writes: true, grows: true},
		"getex":    {run: getEx, min: 1, max: -1, keys: 1, writes: true},

		"del":     {run: del, min: 1, max: -1, keys: -1, writes: true},
		"unlink":  {run: del, min: 1, max: -1, keys: -1, writes: true},
		"exists":  {run: exists, min: 1, max: -1, keys: -1, reads: true},
		"rename":  {run: rename, min: 2, max: 2, keys: 2, writes: true},
		"persist": {run: persist, min: 1, max: 1, keys: 1, writes: true},
		"pexpire": {run: pexpire, min: 2, max: 2, keys: 1, writes: true},
		"pttl":    {run: pttl, min: 1, max: 1, keys: 1, reads: true},
		"scan":    {run: scan, min: 1, max: -1, reads: true},
		"dbsize":  {run: dbSize, reads: true},

		"hget":    {run: hget, min: 2, max: 2, keys: 1, reads: true},
		"hgetall": {run: hgetAll, min: 1, max: 1, keys: 1, reads: true},
		"hset":    {run: hset, min: 3, max: -1, keys: 1, writes: true, grows: true},
		"hdel":    {run: hdel, min: 2, max: -1, keys: 1, writes: true},

		"time":     {run: timeNow},
		"ping":     {run: ping, max: 1},
		"flushall": {run: flushAll, max: 1, writes: true},
		"flushdb":  {run: flushAll, max: 1, writes: true},
	}
	for name, c := range sessionCommands() {
		c.noScript = true
		all[name] = c
	}
	return all
}

// run runs a client's command.
func (s *Server) run(c *call) any {
	known := s.commands[c.name]
	switch {
	case known == nil:
		return unknown(c)
	case !known.takes(len(c.args)):
		return arity(c.name)
	case known.grows && s.full:
		return faultFull
	case known.writes && s.readOnly:
		return faultReadOnly
	}
	return s.perform(known, c)
}

// perform runs a command that may be run.
func (s *Server) perform(known *command, c *call) any {
	reply := known.run(c)
	if known.reads {
		s.remember(c.client, known.named(c.args))
	}
	return reply
}

func (k *command) takes(n int) bool { return n >= k.min && (k.max < 0 || n <= k.max) }

func (k *command) named(args []string) []string {
	if k.keys < 0 {
		return args
	}
	return args[:k.keys]
}

func arity(name string) fault { return fault(fmt.Sprintf(string(faultArity), name)) }

func unknown(c *call) fault {
	var args strings.Builder
	for _, arg := range c.args {
		fmt.Fprintf(&args, "'%.128s' ", arg)
	}
	return fault(fmt.Sprintf("ERR unknown command '%.128s', with args beginning with: %.128s", c.said, args.String()))
}
