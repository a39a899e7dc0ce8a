package fakeredis

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// structLibrary has pack and unpack of numbers without a sign, of one to eight bytes, the
// first of which is the highest: formats such as >I4I6.
func structLibrary(l *lua.LState) *lua.LTable {
	return l.SetFuncs(l.NewTable(), map[string]lua.LGFunction{"pack": pack, "unpack": unpack})
}

// sizes are those of a format's numbers.
func sizes(l *lua.LState) (all []int) {
	format, ok := strings.CutPrefix(l.CheckString(1), ">")
	for ok && format != "" {
		if len(format) < 2 || format[0] != 'I' || format[1] < '1' || format[1] > '8' {
			ok = false
			break
		}
		all = append(all, int(format[1]-'0'))
		format = format[2:]
	}
	if !ok {
		l.RaiseError("fakeredis: a format that it does not know: %s", l.CheckString(1))
	}
	return all
}

func pack(l *lua.LState) int {
	var b []byte
	for i, size := range sizes(l) {
		whole := int64(l.CheckNumber(i + 2))
		for shift := 8 * (size - 1); shift >= 0; shift -= 8 {
			b = append(b, byte(whole>>shift)) //nolint:gosec // the lowest byte of it
		}
	}
	l.Push(lua.LString(b))
	return 1
}

// unpack returns the numbers, and the position after them.
func unpack(l *lua.LState) int {
	all, text, at := sizes(l), l.CheckString(2), l.OptInt(3, 1)-1
	if at < 0 {
		l.ArgError(3, "offset must be 1 or greater")
	}
	for _, size := range all {
		if at+size > len(text) {
			l.ArgError(2, "data string too short")
		}
		whole := uint64(0)
		for _, b := range []byte(text[at : at+size]) {
			whole = whole<<8 | uint64(b)
		}
		l.Push(lua.LNumber(whole))
		at += size
	}
	l.Push(lua.LNumber(at + 1))
	return len(all) + 1
}
