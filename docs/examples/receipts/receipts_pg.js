// Receipts in PostgreSQL, with node-postgres. Usage: PORT=8000 DATABASE_URL=postgres://... node receipts_pg.js
const crypto = require("node:crypto"), http = require("node:http"), pg = require("pg");

const INSERT = `INSERT INTO idempotency_receipts (op_scope, op_key, attempt, executed, made)
  VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`;
const UPDATE = "UPDATE idempotency_receipts SET status = $1, fields = $2, body = $3 WHERE attempt = $4";
const FIND = `SELECT executed, status, fields, body FROM idempotency_receipts
  WHERE op_scope = $1 AND op_key = $2 AND executed = 1 OR attempt = $3 ORDER BY executed IS NULL LIMIT 1`;
const TRY_AGAIN = new Set([401, 407, 408, 421, 425, 429]); // and from 500 on: the operation has not ended
const VOIDED = { status: 409, fields: { "Idempotency-Outcome": "voided" }, body: "this attempt was voided: nothing was done\n" };
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL }).on("error", console.error);

// receipted runs work(db), which returns { status, fields, body }, once per operation. It must neither commit nor roll back.
// Without work, receipted voids the attempt, or only looks.
async function receipted(headers, work, look) {
  const attempt = headers["idempotency-attempt-token"] || crypto.randomUUID();
  const name = [headers["idempotency-scope"] || "", headers["idempotency-key"] || attempt, attempt];
  const db = await pool.connect();
  let committed = false;
  try {
    await db.query("BEGIN");
    const inserted = look || await db.query(INSERT, [...name, work ? 1 : null, Date.now()]);
    if (work && inserted.rowCount === 1) {
      const answer = await work(db);
      if (TRY_AGAIN.has(answer.status) || answer.status >= 500) return answer;
      answer.fields["Idempotency-Outcome"] = "executed"; // for the proxy, where it ends
      await db.query(UPDATE, [answer.status, JSON.stringify(answer.fields), Buffer.from(answer.body), attempt]);
      committed = await db.query("COMMIT");
      return answer;
    }
    const { executed, status, fields, body } = (await db.query(FIND, name)).rows[0] || {};
    committed = await db.query("COMMIT");
    return executed ? { status, fields: JSON.parse(fields), body } : VOIDED;
  } finally {
    db.release(!committed); // what was not committed is undone by closing the connection
  }
}

// answerTo answers the proxy, at PUT and GET /receipts.
async function answerTo(request) {
  const { headers, method } = request, secret = process.env.RECEIPTS_SECRET;
  const hash = (text) => crypto.createHash("sha256").update(text).digest(); // of one length, as timingSafeEqual wants
  if (method !== "PUT" && method !== "GET") return { status: 405 };
  if (secret && !crypto.timingSafeEqual(hash(headers.authorization || ""), hash("Bearer " + secret))) return { status: 401 };
  if (!headers["idempotency-key"] || !headers["idempotency-attempt-token"]) return { status: 400 };
  const kept = await receipted(headers, null, method === "GET");
  if (kept === VOIDED && method === "GET") return { status: 404 };
  if (kept === VOIDED) return { status: 204, fields: VOIDED.fields };
  const own = { "Idempotency-Outcome": "executed", "Idempotency-Status": kept.status };
  return { ...kept, status: 200, fields: { ...kept.fields, ...own } };
}

// The API that uses it, from here on.
async function pay(db, order) {
  if (order.amount <= 0) return { status: 422, fields: { "Content-Type": "text/plain" }, body: "want an amount\n" };
  const { rows } = await db.query("INSERT INTO payments (amount) VALUES ($1) RETURNING id", [order.amount]);
  return { status: 201, fields: { "Content-Type": "application/json" }, body: JSON.stringify({ payment: rows[0].id }) };
}

async function orderIn(request) {
  const text = Buffer.concat(await request.toArray());
  try {
    const order = JSON.parse(text);
    return Number.isInteger(order.amount) ? order : null;
  } catch { return null; }
}

async function answerToPost(request) {
  const order = await orderIn(request); // before anything begins: what is no order needs no receipt
  return order ? receipted(request.headers, (db) => pay(db, order)) : { status: 400 };
}

http.createServer(async (request, response) => { // an error may be COMMIT's: nobody knows, and the proxy asks
  const unknown = (error) => {
    console.error(error); // the client does not see it
    return { status: 503, fields: { "Idempotency-Outcome": "unknown" }, body: `${error}\n` };
  };
  const { status, fields, body } = await (request.method === "POST" ? answerToPost : answerTo)(request).catch(unknown);
  response.writeHead(status, fields).end(body);
}).listen(process.env.PORT, "127.0.0.1");
