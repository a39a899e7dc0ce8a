package estore

import "testing"

// A panic that is not a write that failed is a fault of the program: it goes on, and ends the
// process, since nobody knows what was written.
func TestAPanicThatIsNoFailedWriteGoesOn(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("it is taken for a write that was done")
		}
	}()
	err := (&writes{}).apply(&group{}) // which has no batch to write
	t.Errorf("it goes on, with %v", err)
}
