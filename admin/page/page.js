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
  const body = $("outcomes").tBodies[0];
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
  if (rows.length === 0) rows.push(row(element("td", "no request yet", "empty")));
  body.replaceChildren(...rows);
  $("rate").textContent = all.toLocaleString("en", { maximumFractionDigits: 1 });
  $("hits").textContent = of ? (100 * hits / of).toFixed(1) + " %" : "–";
  $("leases").textContent = s.leases_in_flight.toLocaleString("en");
  $("waiters").textContent = s.waiters.toLocaleString("en");
  $("failures").textContent = s.store_errors.toLocaleString("en");
  $("failures").className = s.store_errors ? "bad" : "";
  $("about").textContent = s.version + ", up " + duration(s.uptime_ms) + ", store " + s.store;
  $("backends").tBodies[0].replaceChildren(...s.backends.map((b) =>
    row(b.upstream || "(at large)", code(b.backend), element("td", b.up ? "up" : "down", b.up ? "good" : "bad"), number(b.active))));
}

async function poll() {
  try {
    showStatus(await (await ask("status")).json());
    $("state").textContent = "live";
    $("state").className = "good";
  } catch (e) {
    $("state").textContent = "not reachable: " + e.message;
    $("state").className = "bad";
  }
  setTimeout(poll, 2000);
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
  loadUnknown();
  loadRunning();
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
  const body = $(id).tBodies[0];
  try {
    const list = await (await ask("keys/list?limit=200&state=" + state)).json();
    const rows = list.keys.map((k) => row(...cells(k)));
    if (list.more) rows.push(row(element("td", "and more", "empty")));
    if (rows.length === 0) rows.push(row(element("td", "none", "empty")));
    body.replaceChildren(...rows);
  } catch (e) {
    body.replaceChildren(row(element("td", e.message, "bad")));
  }
}

const loadUnknown = () => load("unknown", "unknown",
  (k) => [code(k.key), scopeOf(k), element("td", duration(k.age_ms), "n"), number(k.attempt), actions(k)]);
const loadRunning = () => load("running", "in-progress", (k) => [code(k.key), scopeOf(k), element("td", duration(k.age_ms), "n"),
  element("td", duration(k.lease_ms), "n"), number(k.attempt), code(k.owner || ""), actions(k)]);

function showKey(k) {
  const list = element("dl");
  const add = (name, value) => {
    if (value === undefined || value === "") return;
    const dd = element("dd");
    dd.append(value instanceof Node ? value : element("code", value));
    list.append(element("dt", name), dd);
  };
  add("state", k.state);
  add("key", k.key);
  add("scope", scopeOf(k));
  add("in the log", k.digest);
  add("attempt", String(k.attempt));
  add("fingerprint", k.fingerprint + "…");
  add("owner", k.owner && k.owner + "…");
  if (k.status) add("response", k.status + ", " + k.body_bytes + " bytes");
  for (const [name, value] of k.header || []) add("", name + ": " + value);
  if (k.body) add("body", new TextDecoder().decode(Uint8Array.from(atob(k.body), (c) => c.charCodeAt(0))));
  const line = element("ol", undefined, "timeline");
  const at = (text) => line.append(element("li", text));
  at("first request " + duration(k.age_ms) + " ago");
  for (const e of seen.filter((e) => e.key === k.digest).reverse()) {
    at(new Date(e.at).toLocaleTimeString() + " " + e.outcome + ", " + e.status + (e.attempt ? ", attempt " + e.attempt : ""));
  }
  at("last change " + duration(k.changed_ms) + " ago: " + k.state);
  if (k.lease_ms) at("lease lapses in " + duration(k.lease_ms) + " unless it is renewed");
  if (k.replay_ms) at("replayed for " + duration(k.replay_ms) + " more");
  if (k.state === "expired") at("its response is not kept any more");
  if (k.expires_in_ms) at("forgotten in " + duration(k.expires_in_ms));
  else if (k.state === "unknown") at("held until it is resolved");
  const buttons = element("p");
  buttons.append(...actions(k).childNodes);
  $("found").replaceChildren(list, line, buttons);
}

$("lookup").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const query = new URLSearchParams({ key: form.get("key"), scope: form.get("scope"), body: form.get("body") ? "true" : "false" });
  try {
    showKey(await (await ask("keys?" + query)).json());
  } catch (e) {
    $("found").replaceChildren(element("p", e.message, "bad"));
  }
});

// ---- live

const seen = []; // the last decisions, the newest first
let paused = false, dirty = false, missed = 0;

function drawLive() {
  if (dirty && !paused) {
    dirty = false;
    const only = $("filter").value.trim().toLowerCase();
    const rows = seen.filter((e) => !only || [e.outcome, e.path, e.key, e.client, e.route].join(" ").toLowerCase().includes(only)).slice(0, 50)
      .map((e) => row(new Date(e.at).toLocaleTimeString(), e.outcome, element("td", String(e.status), e.status < 400 ? "n" : "n bad"),
        code((e.method || "") + " " + (e.path || "")), code(e.key || ""), number(e.ms, 2), element("td", e.error || "", "wide")));
    if (rows.length === 0) rows.push(row(element("td", "nothing yet", "empty")));
    $("live").tBodies[0].replaceChildren(...rows);
    $("missed").textContent = missed ? missed + " came too fast to be shown" : "";
  }
  setTimeout(drawLive, 250);
}

async function follow() {
  try {
    const reader = (await ask("events")).body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      const parts = text.split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").find((l) => l.startsWith("data: "));
        if (!data) continue;
        if (part.startsWith("event: missed")) missed += Number(data.slice(6));
        else seen.unshift(JSON.parse(data.slice(6)));
      }
      seen.length = Math.min(seen.length, 500);
      dirty = true;
    }
  } catch { /* tried again below; poll says what is wrong */ }
  setTimeout(follow, 1000);
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  dirty = true;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
});
$("filter").addEventListener("input", () => { dirty = true; });
$("load-unknown").addEventListener("click", loadUnknown);
$("load-running").addEventListener("click", loadRunning);

async function start() {
  await poll(); // which asks for the token, if one is wanted
  loadUnknown();
  loadRunning();
  follow();
  dirty = true;
  drawLive();
  try {
    $("settings").textContent = await (await ask("settings")).text();
  } catch (e) {
    $("settings").textContent = e.message;
  }
}

start();
