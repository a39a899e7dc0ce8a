"use strict";
// The page of IdemProxy's admin listener. It holds nothing: what it shows it asks
// for, and what comes from requests is only ever text, never markup.

const $ = (id) => document.getElementById(id);
const token = () => sessionStorage.getItem("token");

function element(tag, text, className) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function row(...cells) {
  const tr = document.createElement("tr");
  for (const c of cells) tr.append(c instanceof Node ? c : element("td", c));
  return tr;
}

// fill puts rows into a table. Each cell gets its column's name, which narrow screens show.
function fill(id, rows, none) {
  const table = $(id), names = [...table.tHead.rows[0].cells].map((c) => c.textContent.trim());
  if (rows.length === 0) rows.push(row(element("td", none, "empty")));
  for (const tr of rows) {
    if (tr.cells.length === 1) tr.cells[0].colSpan = names.length;
    else [...tr.cells].forEach((td, i) => { td.dataset.th = names[i]; });
  }
  table.tBodies[0].replaceChildren(...rows);
}

const number = (v, digits = 0) => element("td", v.toLocaleString("en", { maximumFractionDigits: digits }), "n");

function code(text) {
  const td = element("td", undefined, "wide");
  td.append(element("code", text));
  return td;
}

function duration(ms) {
  if (ms < 0) return "over";
  for (const [size, name] of [[86400000, "d"], [3600000, "h"], [60000, "min"], [1000, "s"]]) {
    if (ms >= size) return (ms / size).toFixed(ms < 10 * size ? 1 : 0) + " " + name;
  }
  return Math.round(ms) + " ms";
}

async function login() {
  const dialog = $("login");
  if (!dialog.open) dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  sessionStorage.setItem("token", dialog.querySelector("[name=token]").value);
}

// ask returns the answer, and shows the dialog for the token when one is wanted.
async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    if (token()) headers.Authorization = "Bearer " + token();
    const resp = await fetch(path, { ...options, headers });
    if (resp.status === 401) { await login(); continue; }
    if (resp.ok) return resp;
    let why = resp.status + " " + resp.statusText;
    try { why = (await resp.json()).error || why; } catch { /* not JSON */ }
    throw new Error(why);
  }
}

// ---- counters

const history = new Map(); // outcome -> the last minute's totals, with their times
const counted = (o) => o.startsWith("replayed");
const keyed = (o) => counted(o) || o === "executed";

function spark(points) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 160 22");
  svg.setAttribute("role", "img");
  const most = Math.max(1e-9, ...points);
  svg.setAttribute("aria-label", "at most " + most.toFixed(1) + " a second");
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  line.setAttribute("fill", "none");
  line.setAttribute("stroke", "currentColor");
  line.setAttribute("stroke-width", "1.5");
  line.setAttribute("points", points.map((v, i) =>
    (160 * i / Math.max(1, points.length - 1)).toFixed(1) + "," + (20 - 18 * v / most).toFixed(1)).join(" "));
  svg.append(line);
  return svg;
}

// rates are of the differences between the totals that were seen.
function rates(seen) {
  const out = [];
  for (let i = 1; i < seen.length; i++) {
    out.push(Math.max(0, seen[i].n - seen[i - 1].n) / Math.max(0.001, (seen[i].at - seen[i - 1].at) / 1000));
  }
  return out;
}

function showStatus(s) {
  const now = performance.now();
  const rows = [];
  let all = 0, hits = 0, of = 0;
  for (const [outcome, n] of Object.entries(s.requests).sort((a, b) => b[1] - a[1])) {
    const seen = history.get(outcome) || [];
    seen.push({ at: now, n });
    while (seen.length > 31) seen.shift();
    history.set(outcome, seen);
    const r = rates(seen), last = r.at(-1) || 0;
    all += last;
    if (counted(outcome)) hits += n;
    if (keyed(outcome)) of += n;
    if (n === 0) continue;
    const chart = element("td");
    if (r.length > 1) chart.append(spark(r));
    rows.push(row(outcome, number(n), number(last, 1), chart));
  }
  fill("outcomes", rows, "no request yet");
  $("rate").textContent = all.toLocaleString("en", { maximumFractionDigits: 1 });
  $("hits").textContent = of ? (100 * hits / of).toFixed(1) + " %" : "–";
  $("leases").textContent = s.leases_in_flight.toLocaleString("en");
  $("waiters").textContent = s.waiters.toLocaleString("en");
  $("unsettled").textContent = s.unsettled.toLocaleString("en");
  $("failures").textContent = s.store_errors.toLocaleString("en");
  $("failures").className = s.store_errors ? "bad" : "";
  $("about").textContent = s.version + ", up " + duration(s.uptime_ms) + ", store " + s.store;
  fill("backends", s.backends.map((b) =>
    row(b.upstream || "(at large)", code(b.backend), element("td", b.up ? "in use" : "left out", b.up ? "" : "bad"), number(b.active))), "none");
  waits(s.unknown_keys);
}

async function poll() {
  try {
    showStatus(await (await ask("status")).json());
    $("reach").textContent = "";
  } catch (e) {
    $("reach").textContent = "The numbers below are old: " + e.message;
  }
  setTimeout(poll, 2000);
}

// ---- whether it is ready, and what waits for a person

let word = "", waiting = 0;

function title() {
  document.title = (waiting ? "(" + waiting + ") " : "") + (word && word !== "ready" ? word + ": " : "") + "IdemProxy";
}

// waits shows how many keys wait for a person, and lists them anew when that has changed.
function waits(n) {
  if (n === undefined || n === waiting) return;
  waiting = n;
  $("waiting").textContent = n ? n.toLocaleString("en") : "";
  $("s-unknown").className = n ? "wanted" : "";
  title();
  loadUnknown();
}

const means = {
  ready: "Ready", degraded: "Degraded: it serves, but not all is well", "not ready": "Not ready: it asks balancers to send nothing",
  draining: "Draining: it is about to stop",
};

function showReady(status, reasons) {
  word = status;
  $("banner").className = status === "ready" ? "good" : status === "degraded" ? "warn" : "bad";
  const list = reasons.map(([name, why]) => {
    const li = element("li");
    li.append(element("b", name), " " + why);
    return li;
  });
  const text = means[status] || status;
  if ($("state").textContent !== text) $("state").textContent = text; // a new text is read out
  $("reasons").replaceChildren(...list);
  title();
}

// checkReady asks as a balancer does. Whatever is not an answer is not "ready".
async function checkReady() {
  try {
    const resp = await fetch("readyz", { signal: AbortSignal.timeout(10000) });
    const r = await resp.json();
    showReady(r.status, Object.entries(r.checks || {}).filter(([name]) => (r.degraded || []).includes(name)));
  } catch (e) {
    showReady("not reachable", [["admin listener", e.message]]);
  }
  setTimeout(checkReady, 3000);
}

// ---- keys

// confirmed asks one question after the other: a dialog tells that it was closed a
// moment later, which the next question must not take for its own answer.
let asked = Promise.resolve();
function confirmed(...question) {
  asked = asked.then(() => askOnce(...question));
  return asked;
}

function askOnce(title, text, yes, withResponse) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  $("ask-response").hidden = !withResponse;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

async function change(path, k, more, title, text, yes, withResponse) {
  if (!await confirmed(title, text, yes, withResponse)) return;
  const body = { key: k.key, scope: k.scope || "", confirm: true, ...more };
  if (withResponse) {
    const form = $("ask");
    body.status = Number(form.querySelector("[name=status]").value);
    const type = form.querySelector("[name=type]").value;
    if (type) body.header = { "Content-Type": type };
    const bytes = new TextEncoder().encode(form.querySelector("[name=body]").value);
    body.body = btoa(String.fromCharCode(...bytes));
  }
  try {
    await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch (e) {
    await confirmed("It was not done", e.message, "Close", false);
  }
  document.dispatchEvent(new Event("changed"));
}

function actions(k) {
  const td = element("td");
  const add = (name, run) => {
    const b = element("button", name);
    b.type = "button";
    b.setAttribute("aria-label", name + " " + k.key);
    b.addEventListener("click", run);
    td.append(b, " ");
  };
  if (k.state === "unknown") {
    add("It was not executed", () => change("keys/resolve", k, { action: "retry" }, "Free " + k.key + "?",
      "The next request with this key will be executed, also if the first one was.", "Free it", false));
    add("It was executed", () => change("keys/resolve", k, { action: "complete" }, "Complete " + k.key + "?",
      "Retries with this key will get this response, also if nothing was executed.", "Store it", true));
  }
  if (k.state === "in-progress") {
    add("Release", () => change("keys/release", k, { owner: k.owner }, "Release " + k.key + "?",
      "The next request with this key will be executed, also if the one under way goes on.", "Release it", false));
  }
  if (k.state === "completed" || k.state === "expired") {
    add("Purge", () => change("keys/purge", k, {}, "Forget " + k.key + "?",
      "The next request with this key will be executed again.", "Forget it", false));
  }
  return td;
}

const scopeOf = (k) => (k.scope || "").replaceAll("\u001f", " and ");

async function load(id, state, cells) {
  try {
    const list = await (await ask("keys/list?limit=200&state=" + state)).json();
    const rows = list.keys.map((k) => row(...cells(k)));
    if (list.more) rows.push(row(element("td", "and more: idemproxy list --state " + state, "empty")));
    fill(id, rows, "none");
  } catch (e) {
    fill(id, [row(element("td", e.message, "bad"))]);
  }
}

// keyLink leads to the key's own page.
function keyLink(digest, text) {
  const td = element("td", undefined, "wide");
  if (!digest) return td;
  const a = element("a");
  a.href = "#/key/" + digest.replace("key:", "");
  a.append(element("code", text || digest));
  td.append(a);
  return td;
}

const loadUnknown = () => load("unknown", "unknown",
  (k) => [keyLink(k.digest, k.key), scopeOf(k), element("td", duration(k.age_ms), "n"), number(k.attempt), actions(k)]);
const loadRunning = () => load("running", "in-progress", (k) => [keyLink(k.digest, k.key), scopeOf(k), element("td", duration(k.age_ms), "n"),
  element("td", duration(k.lease_ms), "n"), number(k.attempt), code(k.owner || ""), actions(k)]);
