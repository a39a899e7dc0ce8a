package fakeredis

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// fromReply is a command's reply as a script gets it.
func fromReply(l *lua.LState, reply any) lua.LValue {
	switch v := reply.(type) {
	case string:
		return lua.LString(v)
	case int64:
		return lua.LNumber(v)
	case status:
		return single(l, "ok", string(v))
	case fault:
		return single(l, "err", string(v))
	case []any:
		t := l.NewTable()
		for i, item := range v {
			t.RawSetInt(i+1, fromReply(l, item))
		}
		return t
	case pairs:
		return fromReply(l, []any(v))
	}
	return lua.LFalse
}

// toReply is what a client gets of what a script returns.
func toReply(v lua.LValue) any {
	switch v := v.(type) {
	case lua.LString:
		return string(v)
	case lua.LNumber:
		return int64(v)
	case lua.LBool:
		if v {
			return int64(1)
		}
	case *lua.LTable:
		if err, ok := v.RawGetString("err").(lua.LString); ok {
			return fault(err)
		}
		if ok, is := v.RawGetString("ok").(lua.LString); is {
			return status(ok)
		}
		all := []any{}
		for i := 1; v.RawGetInt(i) != lua.LNil; i++ {
			all = append(all, toReply(v.RawGetInt(i)))
		}
		return all
	}
	return nil
}

func single(l *lua.LState, name, text string) *lua.LTable {
	t := l.NewTable()
	t.RawSetString(name, lua.LString(text))
	return t
}

// errorReply is redis.error_reply: a text of one word is an ERR's.
func errorReply(l *lua.LState) int {
	text := strings.TrimPrefix(l.CheckString(1), "-")
	if !strings.Contains(text, " ") {
		text = "ERR " + text
	}
	l.Push(single(l, "err", text))
	return 1
}

func statusReply(l *lua.LState) int {
	l.Push(single(l, "ok", l.CheckString(1)))
	return 1
}
