# Receipts in PostgreSQL, with psycopg 3. Usage: PORT=8000 DATABASE_URL=postgres://... python3 receipts_psycopg.py
import hmac, http.server, json, os, secrets, time
import psycopg

INSERT = """INSERT INTO idempotency_receipts (op_scope, op_key, attempt, executed, made)
  VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
UPDATE = "UPDATE idempotency_receipts SET status = %s, fields = %s, body = %s WHERE attempt = %s"
FIND = """SELECT executed, status, fields, body FROM idempotency_receipts WHERE op_scope = %s AND op_key = %s AND executed = 1
  OR attempt = %s ORDER BY executed IS NULL LIMIT 1"""
TRY_AGAIN = {401, 407, 408, 421, 425, 429}  # and from 500 on: the operation has not ended
VOIDED = 409, {"Idempotency-Outcome": "voided"}, b"this attempt was voided: nothing was done\n"

def receipted(headers, work=None, look=False):
    """Runs work(db), which returns (status, fields, body), once per operation. It must neither commit nor roll back.
    Without work, receipted voids the attempt, or only looks."""
    attempt = headers.get("Idempotency-Attempt-Token") or secrets.token_hex(16)
    name = headers.get("Idempotency-Scope", ""), headers.get("Idempotency-Key") or attempt, attempt
    with psycopg.connect(os.environ["DATABASE_URL"]) as db, db.transaction():  # a pool's connection, if you have one
        row = look or db.execute(INSERT, (*name, 1 if work else None, time.time_ns() // 10**6))
        if work and row.rowcount == 1:
            status, fields, body = work(db)
            db.execute(UPDATE, (status, json.dumps(fields := {**fields, "Idempotency-Outcome": "executed"}), body, attempt))
            if status not in TRY_AGAIN and status < 500:
                return status, fields, body
            raise psycopg.Rollback  # to the end of the block
        executed, status, fields, body = db.execute(FIND, name).fetchone() or (None,) * 4
        return (status, json.loads(fields), body) if executed else VOIDED
    return status, fields, body

class Receipts(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.do_PUT(look=True)

    def do_PUT(self, look=False):
        secret, shown = os.environ.get("RECEIPTS_SECRET"), self.headers.get("Authorization", "")
        if secret and not hmac.compare_digest(shown.encode(), f"Bearer {secret}".encode()):
            return self.answer(401, {"WWW-Authenticate": "Bearer"}, b"")
        if not self.headers.get("Idempotency-Key") or not self.headers.get("Idempotency-Attempt-Token"):
            return self.answer(400, {}, b"want Idempotency-Key and Idempotency-Attempt-Token\n")
        status, fields, body = answer = receipted(self.headers, look=look)
        if answer is VOIDED and look:
            return self.answer(404, {}, b"there is no receipt\n")
        if answer is VOIDED:
            return self.answer(204, {"Idempotency-Outcome": "voided"}, b"")
        self.answer(200, {**fields, "Idempotency-Outcome": "executed", "Idempotency-Status": status}, body)

    def answer(self, status, fields, body):
        self.send_response(status)
        for name, value in {**fields, **({} if status == 204 else {"Content-Length": len(body)})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

# The API that uses it, from here on.
def pay(db, order):
    if order["amount"] <= 0:
        return 422, {"Content-Type": "text/plain"}, b"want an amount\n"
    payment, = db.execute("INSERT INTO payments (amount) VALUES (%s) RETURNING id", (order["amount"],)).fetchone()
    return 201, {"Content-Type": "application/json"}, json.dumps({"payment": payment}).encode()

class Handler(Receipts):
    def do_POST(self):
        try:
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            order["amount"] = int(order["amount"])
        except (ValueError, TypeError, KeyError):  # before anything began, so it needs no receipt
            return self.answer(400, {}, b"want JSON with an amount\n")
        try:
            self.answer(*receipted(self.headers, lambda db: pay(db, order)))
        except psycopg.Error as error:  # of COMMIT perhaps: nobody knows, and the proxy asks
            self.log_error("%s", error)  # the client does not see it
            self.answer(503, {"Idempotency-Outcome": "unknown"}, f"{error}\n".encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
