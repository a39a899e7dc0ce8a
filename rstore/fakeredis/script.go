package fakeredis

import (
	"crypto/sha1" //nolint:gosec // it is how Redis names scripts
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// interpreter has the scripts that were loaded, and runs them.
type interpreter struct {
	server  *Server
	state   *lua.LState
	loaded  map[string]*program // by SHA-1
	running *running
}

// program is a script that was compiled.
type program struct {
	sha      string
	proto    *lua.FunctionProto
	flagged  bool // its first line says what it may do
	allowOOM bool
	noWrites bool
}

// running is what is known of a script that runs.
type running struct {
	*program

	client   *conn
	readOnly bool
	wrote    bool
}

func newInterpreter(s *Server) *interpreter {
	in := &interpreter{server: s, state: lua.NewState(lua.Options{SkipOpenLibs: true})}
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenString, lua.OpenMath} {
		in.state.Push(in.state.NewFunction(open))
		in.state.Call(0, 0)
	}
	in.state.SetGlobal("struct", structLibrary(in.state))
	in.state.SetGlobal("redis", in.state.SetFuncs(in.state.NewTable(), map[string]lua.LGFunction{
		"call":         func(l *lua.LState) int { return in.call(l, true) },
		"pcall":        func(l *lua.LState) int { return in.call(l, false) },
		"error_reply":  errorReply,
		"status_reply": statusReply,
	}))
	in.protect()
	in.forget()
	return in
}

// protect has scripts fail that make global variables, or read what is none.
func (in *interpreter) protect() {
	guard := in.state.NewTable()
	guard.RawSetString("__newindex", in.state.NewFunction(func(l *lua.LState) int {
		l.RaiseError("Attempt to modify a readonly table")
		return 0
	}))
	guard.RawSetString("__index", in.state.NewFunction(func(l *lua.LState) int {
		l.RaiseError("Script attempted to access nonexistent global variable '%s'", l.ToString(2))
		return 0
	}))
	in.state.SetMetatable(in.state.Get(lua.GlobalsIndex), guard)
}

func (in *interpreter) forget() { in.loaded = map[string]*program{} }

// compile makes a program of a script, unless there is one.
func (in *interpreter) compile(source string) (*program, error) {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // it is how Redis names scripts
	p := &program{sha: hex.EncodeToString(sum[:])}
	if known := in.loaded[p.sha]; known != nil {
		return known, nil
	}
	if rest, has := strings.CutPrefix(source, "#!"); has {
		first, body, _ := strings.Cut(rest, "\n")
		if err := p.declare(first); err != nil {
			return nil, err
		}
		source = "\n" + body
	}
	chunk, err := parse.Parse(strings.NewReader(source), "user_script")
	if err == nil {
		p.proto, err = lua.Compile(chunk, "user_script")
	}
	if err != nil {
		return nil, fmt.Errorf("ERR Error compiling script (new function): %w", err)
	}
	return p, nil
}

// declare reads a script's first line, which says what it may do.
func (p *program) declare(line string) error {
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != "lua" {
		return fmt.Errorf("ERR Unexpected engine in script shebang: %s", line)
	}
	p.flagged = true
	for _, word := range words[1:] {
		flags, has := strings.CutPrefix(word, "flags=")
		if !has {
			return fmt.Errorf("ERR Unknown lua shebang option: %s", word)
		}
		for flag := range strings.SplitSeq(flags, ",") {
			switch flag {
			case "allow-oom":
				p.allowOOM = true
			case "no-writes":
				p.noWrites = true
			default:
				return fmt.Errorf("ERR Unexpected flag in script shebang: %s", flag)
			}
		}
	}
	return nil
}

// script is SCRIPT.
func script(c *call) any {
	in := c.server.lua
	switch sub := strings.ToLower(c.args[0]); {
	case sub == "load" && len(c.args) == 2:
		p, err := in.compile(c.args[1])
		if err != nil {
			return fault(err.Error())
		}
		in.loaded[p.sha] = p
		return p.sha
	case sub == "flush":
		in.forget()
		return status("OK")
	case sub == "exists" && len(c.args) > 1:
		there := []any{}
		for _, sha := range c.args[1:] {
			n := int64(0)
			if in.loaded[strings.ToLower(sha)] != nil {
				n = 1
			}
			there = append(there, n)
		}
		return there
	}
	return fault(fmt.Sprintf("ERR unknown subcommand or wrong number of arguments for '%.128s'. Try SCRIPT HELP.", c.args[0]))
}

// eval is EVAL, EVALSHA, and those that only read.
func eval(c *call) any {
	in := c.server.lua
	n, err := strconv.Atoi(c.args[1])
	switch {
	case err != nil:
		return faultInteger
	case n > len(c.args)-2:
		return fault("ERR Number of keys can't be greater than number of args")
	case n < 0:
		return fault("ERR Number of keys can't be negative")
	}
	r := &running{client: c.client, readOnly: strings.HasSuffix(c.name, "_ro")}
	if strings.HasPrefix(c.name, "evalsha") {
		if r.program = in.loaded[strings.ToLower(c.args[0])]; r.program == nil {
			return fault("NOSCRIPT No matching script. Please use EVAL.")
		}
	} else if r.program, err = in.compile(c.args[0]); err != nil {
		return fault(err.Error())
	}
	if refused := r.refused(c.server); refused != "" {
		return refused
	}
	in.loaded[r.sha] = r.program
	return in.run(r, c.args[2:2+n], c.args[2+n:])
}

// refused says why a script that says what it may do is not run.
func (r *running) refused(s *Server) fault {
	switch {
	case !r.flagged:
	case r.readOnly && !r.noWrites:
		return "ERR Can not execute a script with write flag using *_ro command."
	case s.readOnly && !r.noWrites:
		return faultReadOnly
	case s.full && !r.allowOOM && !r.noWrites:
		return faultFull
	}
	r.readOnly = r.readOnly || r.noWrites
	return ""
}

func (in *interpreter) run(r *running, keys, args []string) any {
	in.running = r
	defer func() { in.running = nil }()
	globals := in.state.G.Global
	globals.RawSetString("KEYS", in.strings(keys))
	globals.RawSetString("ARGV", in.strings(args))
	in.state.Push(in.state.NewFunctionFromProto(r.proto))
	if err := in.state.PCall(0, 1, nil); err != nil {
		in.state.SetTop(0)
		return r.failed(err)
	}
	result := in.state.Get(-1)
	in.state.SetTop(0)
	return toReply(result)
}

func (in *interpreter) strings(all []string) *lua.LTable {
	t := in.state.NewTable()
	for _, s := range all {
		t.Append(lua.LString(s))
	}
	return t
}

// failed is what a client hears of a script that ended with an error.
func (r *running) failed(err error) fault {
	text := "ERR " + err.Error()
	var raised *lua.ApiError
	if errors.As(err, &raised) {
		if t, ok := raised.Object.(*lua.LTable); ok {
			text = t.RawGetString("err").String()
		} else {
			text = "ERR " + raised.Object.String()
		}
	}
	return fault(text + " script: " + r.sha + ", on @user_script.")
}

// call is redis.call, or redis.pcall, which returns what the other raises.
func (in *interpreter) call(l *lua.LState, raise bool) int {
	reply := in.command(l)
	if f, ok := reply.(fault); ok && raise {
		l.Error(fromReply(l, f), 1)
	}
	l.Push(fromReply(l, reply))
	return 1
}

func (in *interpreter) command(l *lua.LState) any {
	args := make([]string, l.GetTop())
	if len(args) == 0 {
		return fault("ERR Please specify at least one argument for this redis.call() call")
	}
	for i := range args {
		switch v := l.Get(i + 1).(type) {
		case lua.LString:
			args[i] = string(v)
		case lua.LNumber:
			args[i] = fmt.Sprintf("%.17g", float64(v))
		default:
			return fault("ERR Lua redis lib command arguments must be strings or integers")
		}
	}
	s, r := in.server, in.running
	c := &call{server: s, client: r.client, name: strings.ToLower(args[0]), args: args[1:], script: r}
	known := s.commands[c.name]
	switch {
	case known == nil:
		return fault("ERR Unknown Redis command called from script")
	case !known.takes(len(c.args)):
		return fault("ERR Wrong number of args calling Redis command from script")
	case known.noScript:
		return fault("ERR This Redis command is not allowed from script")
	case known.writes && r.readOnly:
		return fault("ERR Write commands are not allowed from read-only scripts.")
	case known.writes && s.readOnly:
		return faultReadOnly
	case known.grows && s.full && !r.allowOOM && !r.wrote:
		return faultFull
	}
	r.wrote = r.wrote || known.writes
	return s.perform(known, c)
}
