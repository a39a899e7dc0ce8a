package idem_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

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

// What is said of a response besides its bytes is stored with it: whether its body was left
// out, and whether it is to be opened before anybody gets it.
func TestMarksOfAResponseAreKept(t *testing.T) {
	t.Parallel()
	for marks := range 8 {
		want := &idem.Response{Status: 200, Body: []byte("x"), BodyOmitted: marks&1 != 0, Sealed: marks&2 != 0}
		if marks&4 != 0 {
			want.Redirect = &idem.Redirect{From: []byte("a"), To: []byte("b")}
		}
		if got, err := idem.DecodeResponse(idem.AppendResponse(nil, want)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
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
	r.Hinted = true
	if got := hex.EncodeToString(r.Append(nil)[:8]); got != "0202010100000003" {
		t.Errorf("a record with hints begins with %s", got)
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
		for n := range b {
			if got, err := idem.DecodeRecord(b[:n:n]); err == nil {
				t.Errorf("the first %d of %d bytes decode to %+v", n, len(b), got)
			}
		}
	}
}

// A time of layout 1 that layout 2 has no room for is damage, in each place and from the
// first one too large; it is never read as another time.
func TestTimesOfLayout1ThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, at := range []int{8, 96, 104, 112} {
		b := make([]byte, 120)
		b[0], b[1] = 1, byte(idem.InProgress)
		b[at+2] = 0x80
		if _, err := idem.DecodeHead(b); err != nil {
			t.Errorf("2^47 ms at %d: %v", at, err)
		}
		b[at+1], b[at+2] = 1, 0
		if r, err := idem.DecodeHead(b); !errors.Is(err, idem.ErrCorrupt) {
			t.Errorf("2^48 ms at %d: %+v, %v", at, r, err)
		}
	}
}

// A response that announces fields which it does not have is damage, however many it
// announces and whatever follows.
func TestFieldsThatAreNotThere(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 255, 256, 65535} {
		for rest := range 20 {
			b := append([]byte{0, 200, 0, byte(n >> 8), byte(n)}, make([]byte, rest)...)
			if r, err := idem.DecodeResponse(b); err == nil && len(r.Header) != n {
				t.Errorf("%d fields in %d bytes: read as %+v", n, rest, r)
			}
		}
	}
}

// What has ended has no lease, so that no operator is shown one.
func TestWhatHasEndedHasNoLease(t *testing.T) {
	t.Parallel()
	running := sampleRecord(t)
	running.State, running.LeaseUntil, running.Response = idem.InProgress, 5000, nil
	lease := idem.Lease{Key: running.Key, Owner: running.Owner, TTL: 30 * time.Second, Retention: time.Hour}
	for _, e := range []idem.Event{idem.EventComplete, idem.EventHold} {
		var response *idem.Response
		if e == idem.EventComplete {
			response = ok()
		}
		got, err := running.Apply(e, lease, response, 1000)
		if err != nil || got == nil || got.LeaseUntil != 0 {
			t.Errorf("%v: %+v, %v, want no lease", e, got, err)
		}
	}
	if got, err := running.Apply(idem.EventRenew, lease, nil, 1000); err != nil || got == nil || got.LeaseUntil != 31000 {
		t.Errorf("a renewal: %+v, %v, want a lease until 31000", got, err)
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
	r.Redirect = &idem.Redirect{From: []byte("from"), To: []byte("to")}
	c := r.Clone()
	if !reflect.DeepEqual(c, r) {
		t.Errorf("the clone is %+v, its original %+v", c, r)
	}
	all := [][]byte{r.Body, r.Header[0].Name, r.Header[0].Value, r.Redirect.From, r.Redirect.To}
	for _, b := range all {
		b[0] = '!'
	}
	for i, b := range [][]byte{c.Body, c.Header[0].Name, c.Header[0].Value, c.Redirect.From, c.Redirect.To} {
		if b[0] == '!' {
			t.Errorf("the clone changed with its original: %d", i)
		}
	}
	if none := (&idem.Response{Status: 204}).Clone(); none.Redirect != nil || none.Status != 204 {
		t.Errorf("the clone of next to nothing is %+v", none)
	}
}

// What a response takes in memory counts against what may be kept there, wherever in it the
// bytes are.
func TestSizeCountsEveryByte(t *testing.T) {
	t.Parallel()
	big := make([]byte, 1<<20)
	for name, r := range map[string]*idem.Response{
		"the body":         {Body: big},
		"a field's name":   {Header: []idem.Field{{}, {Name: big}}},
		"a field's value":  {Header: []idem.Field{{Value: big}, {}}},
		"where it is from": {Redirect: &idem.Redirect{From: big}},
		"where it goes":    {Redirect: &idem.Redirect{To: big}},
		"many fields":      {Header: make([]idem.Field, len(big)/48)},
	} {
		if n := r.Size(); n < len(big) || n > len(big)+200 {
			t.Errorf("%s: %d bytes, it has %d", name, n, len(big))
		}
	}
}

// A response of a later layout is not read as one of this layout.
func TestResponseOfALaterLayout(t *testing.T) {
	t.Parallel()
	for flag := byte(1); flag != 0; flag <<= 1 {
		b := []byte{0, 200, flag, 0, 0, 0, 0, 0, 0}
		if flag == 4 { // a redirect
			b = append(b, make([]byte, 8)...)
		}
		if _, err := idem.DecodeResponse(b); (flag > 4) != errors.Is(err, idem.ErrVersion) || flag <= 4 && err != nil {
			t.Errorf("flag %#x: %v", flag, err)
		}
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
