-- Receipts in PostgreSQL, for programs in any language. The table is receipt/migrations/postgresql.sql.
-- $1 is Idempotency-Scope ('' if there is none), $2 Idempotency-Key, $3 Idempotency-Attempt-Token, or random text.
-- SQLite has ? for $1, BEGIN IMMEDIATE, and another clock: give it the time as a parameter, in milliseconds since 1970.
-- MySQL has INSERT IGNORE for ON CONFLICT DO NOTHING, and wants the time as a parameter as well.

-- A request, in one transaction (READ COMMITTED): BEGIN, and then this row first. It is the lock that keeps
-- other attempts out, and the fence that a void of this attempt meets. Wait for it; do not ask before it.
-- execute:
INSERT INTO idempotency_receipts (op_scope, op_key, attempt, executed, made)
  VALUES ($1, $2, $3, 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) ON CONFLICT DO NOTHING;

-- One row was inserted: do the work, in this transaction, and do not commit in it. $1 is the response's status, $2 its fields as a JSON
-- object, $3 its body, $4 the attempt. COMMIT, and answer, with Idempotency-Outcome: executed. Of a status of 429 or
-- from 500 on, ROLLBACK, and answer.
-- If COMMIT fails, nobody knows: answer 503 with Idempotency-Outcome: unknown.
-- complete:
UPDATE idempotency_receipts SET status = $1, fields = $2, body = $3 WHERE attempt = $4;

-- No row was inserted: do nothing, and see what stands. executed = 1: answer with that response, likewise. NULL: the attempt
-- was voided: answer 409 with Idempotency-Outcome: voided. Either way, ROLLBACK: nothing was written.
-- find:
SELECT executed, status, fields, body FROM idempotency_receipts
  WHERE op_scope = $1 AND op_key = $2 AND executed = 1 OR attempt = $3
  ORDER BY executed IS NULL LIMIT 1;

-- PUT /receipts: this, committed by itself, and then find. executed = 1: answer 200 with the fields, the body,
-- Idempotency-Outcome: executed and Idempotency-Status: the status. NULL: answer 204 with Idempotency-Outcome: voided.
-- GET /receipts only looks: find, without this. No row, or NULL: answer 404.
-- void:
INSERT INTO idempotency_receipts (op_scope, op_key, attempt, executed, made)
  VALUES ($1, $2, $3, NULL, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) ON CONFLICT DO NOTHING;

-- From time to time. Rows outlive the time for which a client may repeat a key; $1 is in milliseconds since 1970.
-- clean:
DELETE FROM idempotency_receipts WHERE made < $1;
