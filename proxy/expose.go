package proxy

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// headerReplayUntil says until when a response can be replayed.
const headerReplayUntil = "Idempotency-Replay-Until"

// promise writes into the first answer, on a route that has it, that it is no replay,
// which attempt it is of, and, if the store has it already, until when it can be replayed:
// nothing is promised that may not be kept.
// The time is this machine's: it is for people, and the store's clock decides.
func (q *request) promise(held *attempts) {
	if !q.rules.Expose {
		return
	}
	h := &q.ctx.Response.Header
	h.Set(message.HeaderReplayed, "false")
	h.Set(message.HeaderAttempt, strconv.FormatUint(uint64(held.number()), 10))
	if q.report.Ending == idem.Stored {
		h.SetBytesV(headerReplayUntil, fasthttp.AppendHTTPDate(nil, time.Now().Add(held.retention())))
	}
}
