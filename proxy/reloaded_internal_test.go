package proxy

import (
	"reflect"
	"testing"
)

// What a reload does with each field of a Config. A new field belongs in one of the two: in
// the first if requests are treated by it, and if it is given again by who reloads.
func reloadTable() (takes, keeps []string) {
	takes = []string{"Rules", "Routes", "Upstream", "Upstreams", "MaxInFlight", "MaxBuffered", "TrustedProxies", "OutcomesPath"}
	keeps = []string{
		"Engine", "Secret", "EarlierSecrets", "Recipes", "RecipeUnread", "Trace", "Dial", "Lookup", // what New alone is given
		"MaxClients", "MaxClientsPerIP", "IdleTimeout", "HeaderTimeout", "BodyTimeout", "BodyMinRate", "MaxHeader", // of connections
		"EarlyHints", "Traceparent", "SettleEvery",
	}
	return takes, keeps
}

// Reload lost fields that are the server's own when there were new ones: from the first
// reload on they were empty. Each field is therefore taken or kept by name.
func TestReloadTakesOrKeepsEachField(t *testing.T) {
	t.Parallel()
	takes, keeps := reloadTable()
	want := map[string]bool{} // whether it is taken
	for _, name := range keeps {
		want[name] = false
	}
	for _, name := range takes {
		if _, twice := want[name]; twice {
			t.Errorf("%s is both taken and kept", name)
		}
		want[name] = true
	}
	of := reflect.TypeFor[Config]()
	for i := range of.NumField() {
		name := of.Field(i).Name
		taken, ok := want[name]
		if !ok {
			t.Errorf("nobody has said what a reload does with Config.%s: see reloadTable", name)
			continue
		}
		delete(want, name)
		var own, next Config
		fill(t, reflect.ValueOf(&own).Elem().Field(i))
		now := own.reloaded(next)
		if lost := reflect.ValueOf(now).Field(i).IsZero(); lost != taken {
			t.Errorf("Config.%s of the server is lost by a reload without it: %v, want %v", name, lost, taken)
		}
		now = next.reloaded(own)
		if came := !reflect.ValueOf(now).Field(i).IsZero(); came != taken {
			t.Errorf("Config.%s comes with a reload: %v, want %v", name, came, taken)
		}
	}
	for name := range want {
		t.Errorf("there is no Config.%s", name)
	}
}

// fill gives each part of a value something other than nothing, interfaces aside.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.String:
		v.SetString("x")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Func:
		v.Set(reflect.MakeFunc(v.Type(), func([]reflect.Value) []reflect.Value { return nil }))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(t, v.Field(i))
			}
		}
	case reflect.Interface:
	default:
		t.Fatalf("how to fill a %s?", v.Type())
	}
}
