-- Receipts of executed operations, and the attempts that were voided.
CREATE TABLE IF NOT EXISTS idempotency_receipts (
  attempt  text     NOT NULL, -- the token of the attempt
  op_scope text     NOT NULL,
  op_key   text     NOT NULL,
  executed smallint,          -- 1, or NULL for an attempt that was voided
  status   integer,
  fields   text,              -- header fields of the response, as JSON
  body     bytea,
  made     bigint   NOT NULL, -- milliseconds since 1970
  PRIMARY KEY (attempt),
  UNIQUE (op_scope, op_key, executed), -- at most one execution of a key: NULLs are distinct
  CHECK (executed = 1)
);
CREATE INDEX IF NOT EXISTS idempotency_receipts_made ON idempotency_receipts (made);
