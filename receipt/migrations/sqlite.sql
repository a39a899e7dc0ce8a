-- Receipts of executed operations, and the attempts that were voided.
CREATE TABLE IF NOT EXISTS idempotency_receipts (
  attempt  TEXT    NOT NULL, -- the token of the attempt
  op_scope TEXT    NOT NULL,
  op_key   TEXT    NOT NULL,
  executed INTEGER,          -- 1, or NULL for an attempt that was voided
  status   INTEGER,
  fields   TEXT,             -- header fields of the response, as JSON
  body     BLOB,
  made     INTEGER NOT NULL, -- milliseconds since 1970
  PRIMARY KEY (attempt),
  UNIQUE (op_scope, op_key, executed), -- at most one execution of a key: NULLs are distinct
  CHECK (executed = 1)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idempotency_receipts_made ON idempotency_receipts (made);
