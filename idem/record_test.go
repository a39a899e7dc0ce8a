package idem_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

func sampleRecord(tb testing.TB) idem.Record {
	tb.Helper()
	key, err := idem.ParseKey("order-42")
	if err != nil {
		tb.Fatal(err)
	}
	return idem.Record{
		Key: key.InScope("acct"), State: idem.Completed, HoldOnLapse: true, Attempt: 3, Recipe: 0x01020304,
		Owner: idem.Owner{1}, Fingerprint: idem.Fingerprint{2}, Binding: idem.Binding{3},
		Created: 10, Updated: 20, Expires: 0x010203040506, ReplayUntil: 30, Retention: 7, Remember: 8,
		Response: &idem.Response{
			Status: 201, Body: []byte("\x00ok"), BodyOmitted: false,
			Header: []idem.Field{{Name: []byte("A"), Value: []byte("1")}, {Name: []byte("A"), Value: []byte{}}},
		},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	want := sampleRecord(t)
	got, err := idem.DecodeRecord(want.Append(nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// Records must stay readable for ever: change this only together with
// LayoutVersion, and read the one before.
func TestRecordGolden(t *testing.T) {
	t.Parallel()
	const golden = "02020100" + "00000003" +
		"01000000000000000000000000000000" + "02000000000000000000000000000000" + "03000000000000000000000000000000" +
		"01020304" + "00000000001e" + "00000000000a" + "000000000014" + "010203040506" + "000000000007" + "000000000008" +
		"0004" + "0008" + "61636374" + "6f726465722d3432" +
		"00c9" + "04" + "0002" + "0001" + "00000001" + "41" + "31" + "0001" + "00000000" + "41" +
		"00000003" + "006f6b" + "00000001" + "61" + "00000002" + "6263"
	r := sampleRecord(t)
	r.Response.Redirect = &idem.Redirect{From: []byte("a"), To: []byte("bc")}
	if got := hex.EncodeToString(r.Append(nil)); got != golden {
		t.Errorf("layout 2 is now\n%s, was\n%s", got, golden)
	}
	got, err := idem.DecodeRecord(r.Append(nil))
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, r)
	}
}

// A record of the layout before is read for what it is: compared by the recipe
// of that time, and ending when it was to end.
func TestRecordOfLayout1(t *testing.T) {
	t.Parallel()
	const head = "00000003" + "00000000000003e8" + "01000000000000000000000000000000" +
		"0200000000000000000000000000000000000000000000000000000000000001" +
		"0300000000000000000000000000000000000000000000000000000000000001" +
		"000000000000000a" + "0000000000000014" + "0000000000000bb8"
	const names = "0004" + "0008" + "61636374" + "6f726465722d3432"
	base := sampleRecord(t)
	base.Recipe, base.ReplayUntil, base.Expires, base.Remember, base.Retention = idem.LegacyRecipe, 0, 3000, 0, 3000-20
	completed, running, held := base, base, base
	completed.ReplayUntil = 3000
	running.State, running.Response, running.LeaseUntil, running.Retention, running.Expires = idem.InProgress, nil, 1000, 2000, 0
	held.State, held.Response, held.Expires = idem.Unknown, nil, 0
	for text, want := range map[string]idem.Record{
		"01020100" + head + names + "00c9" + "00" + "0002" + "0001" + "00000001" + "41" + "31" + "0001" + "00000000" + "41" +
			"00000003" + "006f6b": completed,
		"01010100" + head + names: running,
		"01030100" + head + names: held,
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := idem.DecodeRecord(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
}

func TestRecordOfAnotherLayoutFailsClosed(t *testing.T) {
	t.Parallel()
	r := sampleRecord(t)
	b := r.Append(nil)
	b[0]++
	if _, err := idem.DecodeRecord(b); !errors.Is(err, idem.ErrVersion) {
		t.Errorf("got %v, want %v", err, idem.ErrVersion)
	}
}

func TestRecordCutAnywhereIsAnError(t *testing.T) {
	t.Parallel()
	r := sampleRecord(t)
	whole := r.Append(nil)
	for n := range whole {
		if got, err := idem.DecodeRecord(whole[:n:n]); err == nil {
			t.Errorf("the first %d of %d bytes decode to %+v", n, len(whole), got)
		}
	}
	if _, err := idem.DecodeRecord(append(whole, 0)); !errors.Is(err, idem.ErrCorrupt) {
		t.Errorf("a surplus byte: %v", err)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	t.Parallel()
	r := sampleRecord(t).Response
	c := r.Clone()
	r.Body[0], r.Header[0].Name[0], r.Header[0].Value[0] = '!', '!', '!'
	if c.Body[0] == '!' || c.Header[0].Name[0] == '!' || c.Header[0].Value[0] == '!' {
		t.Error("the clone changed with its original")
	}
}

// FuzzRecord: any bytes are either refused or decode to what encodes to them.
func FuzzRecord(f *testing.F) {
	r := sampleRecord(f)
	f.Add(r.Append(nil))
	r.State = idem.InProgress
	f.Add(r.Append(nil))
	// Layout 1, with times that layout 2 has no room for, and with ends before beginnings.
	f.Add(append(append([]byte{1, 0}, bytes.Repeat([]byte("0"), 118)...), "\x00\x00\x00\x03000"...))
	f.Add(append(append([]byte{1, 1}, make([]byte, 117)...), "\x05\x00\x00\x00\x03000"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := idem.DecodeRecord(bytes.Clone(b))
		if err != nil {
			return
		}
		again, err := idem.DecodeRecord(r.Append(nil))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%x decodes to %+v, which becomes %+v, %v", b, r, again, err)
		}
	})
}

func BenchmarkRecordAppend(b *testing.B) {
	r := sampleRecord(b)
	r.Response.Body = bytes.Repeat([]byte("x"), 300)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = r.Append(buf[:0])
	}
}

func BenchmarkRecordDecode(b *testing.B) {
	r := sampleRecord(b)
	r.Response.Body = bytes.Repeat([]byte("x"), 300)
	buf := r.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := idem.DecodeRecord(buf); err != nil {
			b.Fatal(err)
		}
	}
}
