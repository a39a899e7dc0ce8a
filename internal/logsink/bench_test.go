package logsink_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/idemproxy/idemproxy/internal/logsink"
)

// What a line costs who writes it: to a pipe that is read, and by the sink to that.
func BenchmarkWrite(b *testing.B) {
	line := append(bytes.Repeat([]byte("x"), 300), '\n')
	for name, through := range map[string]func(io.Writer) io.Writer{
		"direct": func(w io.Writer) io.Writer { return w },
		"sink":   func(w io.Writer) io.Writer { return logsink.New(w, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			read, write, err := os.Pipe()
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = write.Close() }()
			go func() { _, _ = io.Copy(io.Discard, read) }()
			w := through(write)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := w.Write(line); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
