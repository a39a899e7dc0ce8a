package message

// trailers are what both headers of fasthttp have.
type trailers interface {
	PeekTrailerKeys() [][]byte
	PeekBytes(name []byte) []byte
	SetBytesKV(name, value []byte)
}

// CopyTrailers copies the trailers that to announces. It does nothing for a nil
// to.
func CopyTrailers[H interface {
	comparable
	trailers
}](to, from H) {
	var none H
	if to == none {
		return
	}
	for _, name := range to.PeekTrailerKeys() {
		if value := from.PeekBytes(name); value != nil {
			to.SetBytesKV(name, value)
		}
	}
}
