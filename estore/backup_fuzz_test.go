package estore_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/idemproxy/idemproxy/estore"
)

// FuzzReadBackup: of no bytes it panics; what it refuses, it calls no backup; and of what it
// accepts, each file that was handed out is in the list with its size and digest.
func FuzzReadBackup(f *testing.F) {
	for _, text := range []string{"", "a file", "another\x00"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		sum := sha256.Sum256([]byte(text))
		manifest := fmt.Sprintf(`{"format":1,"files":[{"name":"one","size":%d,"sha256":%q}]}`, len(text), hex.EncodeToString(sum[:]))
		for _, file := range [][2]string{{"one", text}, {"BACKUP", manifest}} {
			if err := w.WriteHeader(&tar.Header{Name: file[0], Size: int64(len(file[1])), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
				f.Fatal(err)
			}
			if _, err := io.WriteString(w, file[1]); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, backup []byte) {
		got := map[string]estore.Filed{}
		m, err := estore.ReadBackup(bytes.NewReader(backup), func(name string, content io.Reader) error {
			b, err := io.ReadAll(content)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(b)
			got[name] = estore.Filed{Name: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
			return nil
		})
		if err != nil {
			if !errors.Is(err, estore.ErrBackup) {
				t.Errorf("an error that does not say whose fault it is: %v", err)
			}
			return
		}
		for _, file := range m.Files {
			if got[file.Name] != file {
				t.Errorf("%v is in the list, and %v was handed out", file, got[file.Name])
			}
		}
	})
}
