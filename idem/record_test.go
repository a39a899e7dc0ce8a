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
		Key: key.InScope("acct"), State: idem.Completed, HoldOnLapse: true, Attempt: 3, LeaseUntil: 1000,
		Owner: idem.Owner{1}, Fingerprint: idem.Fingerprint{2}, Binding: idem.Binding{3},
		Created: 10, Updated: 20, Expires: 30,
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

// Records of layout 1 must stay readable for ever: change this only together
// with LayoutVersion.
func TestRecordGoldenV1(t *testing.T) {
	t.Parallel()
	const golden = "01020100" + "00000003" + "00000000000003e8" +
		"01000000000000000000000000000000" +
		"0200000000000000000000000000000000000000000000000000000000000000" +
		"0300000000000000000000000000000000000000000000000000000000000000" +
		"000000000000000a" + "0000000000000014" + "000000000000001e" +
		"0004" + "0008" + "61636374" + "6f726465722d3432" +
		"00c9" + "00" + "0002" + "0001" + "00000001" + "41" + "31" + "0001" + "00000000" + "41" +
		"00000003" + "006f6b"
	r := sampleRecord(t)
	if got := hex.EncodeToString(r.Append(nil)); got != golden {
		t.Errorf("layout 1 is now\n%s, was\n%s", got, golden)
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
