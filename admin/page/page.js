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

// named gives a row the name of what it is of: while that is shown, so is the same row.
function named(name, tr) {
  tr.dataset.row = name;
  return tr;
}

// fill puts rows into a table. Each cell gets its column's name, which narrow screens show.
// A row that has a name, and each of its cells that is as it was, stays the same element:
// one made anew would lose the focus, and a click whose button was pressed on the one before.
function fill(id, rows, none) {
  const table = $(id), body = table.tBodies[0], names = [...table.tHead.rows[0].cells].map((c) => c.textContent.trim());
  if (rows.length === 0) rows.push(row(element("td", none, "empty")));
  for (const tr of rows) {
    if (tr.cells.length === 1) tr.cells[0].colSpan = names.length;
    else [...tr.cells].forEach((td, i) => { td.dataset.th = names[i]; });
  }
  const before = new Map([...body.rows].filter((tr) => tr.dataset.row).map((tr) => [tr.dataset.row, tr]));
  const wanted = rows.map((tr) => {
    const old = before.get(tr.dataset.row);
    before.delete(tr.dataset.row);
    return old ? renewed(old, tr) : tr;
  });
  for (const tr of [...body.rows]) if (!wanted.includes(tr)) tr.remove();
  wanted.forEach((tr, i) => { if (body.rows[i] !== tr) body.insertBefore(tr, body.rows[i] || null); });
}

// renewed is a row with the cells of a newer one where they differ.
function renewed(old, tr) {
  [...tr.cells].forEach((td, i) => { if (!td.isEqualNode(old.cells[i])) old.cells[i].replaceWith(td); });
  return old;
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

// login asks for the token. refused is the one that the proxy did not take, if there was one.
async function login(refused) {
  const dialog = $("login"), field = dialog.querySelector("[name=token]");
  let wrong = refused ? "The proxy refused this token." : "";
  do {
    if (!dialog.open) {
      $("login-said").textContent = wrong;
      dialog.showModal();
      field.select();
    }
    await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
    wrong = "This is not a token: it has a character that no header field can have. Copy it again.";
  } while (/[^ -~]/.test(field.value.trim()));
  sessionStorage.setItem("token", field.value.trim());
}

// ask returns the answer, and shows the dialog for the token when one is wanted.
async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers }, shown = token();
    if (shown) headers.Authorization = "Bearer " + shown;
    const resp = await fetch(path, { ...options, headers }).catch((e) => { throw new TypeError("no connection to the proxy", { cause: e }); });
    if (resp.status === 401) {
      if (token() === shown) await login(shown); // otherwise another question has got a new one meanwhile
      continue;
    }
    if (resp.ok) return resp;
    let why = resp.status + " " + resp.statusText;
    try { why = (await resp.json()).error || why; } catch { /* not JSON */ }
    throw Object.assign(new Error(why), { status: resp.status });
  }
}

// ---- counters

let totals = null; // of the requests by outcome, as they were last seen, and when
const counted = (o) => o.startsWith("replayed");
const keyed = (o) => counted(o) || o === "executed";

function showStatus(s) {
  const now = performance.now();
  const rows = [];
  let all = 0, hits = 0, of = 0;
  for (const [outcome, n] of Object.entries(s.requests).sort((a, b) => b[1] - a[1])) {
    const last = totals ? Math.max(0, n - (totals.of[outcome] || 0)) / Math.max(0.001, (now - totals.at) / 1000) : 0;
    all += last;
    if (counted(outcome)) hits += n;
    if (keyed(outcome)) of += n;
    if (n === 0) continue;
    rows.push(row(outcome, number(n), number(last, 1)));
  }
  totals = { at: now, of: s.requests };
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
  wrong = s.amiss;
  countedMS = 1000 * (s.unknown_counted_s || 0);
  waits(s.unknown_keys);
  banner();
}

async function poll() {
  try {
    showStatus(await (await ask("status")).json());
    $("reach").textContent = "";
  } catch (e) {
    $("reach").textContent = "The numbers below are old" + (answered ? ", of before " + answered.toLocaleTimeString("en-GB") : "") + ".";
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
  dialog.querySelector("[value=no]").hidden = yes === "Close"; // there is nothing to choose
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// Who clicks twice on what opens the dialog has not read it: the second click may meet the button that agrees.
$("ask-yes").addEventListener("click", (event) => { if (event.detail > 1) event.preventDefault(); });

// givenResponse is what was typed into the dialog, as the API has it.
function givenResponse() {
  const form = $("ask"), type = form.querySelector("[name=type]").value;
  const bytes = new TextEncoder().encode(form.querySelector("[name=body]").value);
  return {
    status: Number(form.querySelector("[name=status]").value), header: type ? { "Content-Type": type } : undefined,
    body: btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join("")),
  };
}

// changed has a change made that was confirmed.
function changed(path, k, more) {
  const body = { key: k.key, scope: k.scope || "", confirm: true, ...more };
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

async function change(path, k, more, title, text, yes, withResponse) {
  if (!await confirmed(title, text, yes, withResponse)) return;
  try {
    await changed(path, k, withResponse ? { ...more, ...givenResponse() } : more);
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
    add("It was not executed", () => change("keys/resolve", k, { action: "retry", owner: k.owner }, "Free " + k.key + "?",
      "The next request with this key will be executed, also if the first one was.", "Free it", false));
    add("It was executed", () => change("keys/resolve", k, { action: "complete", owner: k.owner }, "Complete " + k.key + "?",
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

// scopeFrom is the scope that a person means who types it, or copies it from this page or from the
// command line: a header's name in any case, and several sources in any order, with "and" or a tab
// between them. A value can have an "and" of its own. Scopes of releases before have no source.
function scopeFrom(text) {
  const all = text.trim().split(/\t| and (?=header:|host=|claim:)/);
  if (all.every((one) => /^(header:|host=|claim:)/.test(one))) return all.join("\t"); // in any order, and case
  return text.trim().replace(/^(\u001e.*) and$/, "$1 and ").replaceAll(/\t| and /g, "\u001f");
}

// most is how many keys are listed: a few, so that the rest of the page stays in reach, until
// more are asked for.
const few = matchMedia("(max-width: 640px)").matches ? 5 : 10, most = { unknown: few, running: few };

async function load(id, state, cells) {
  try {
    const list = await (await ask("keys/list?limit=" + most[id] + "&state=" + state)).json();
    const rows = list.keys.map((k) => named([k.digest, k.owner, k.attempt].join(" "), row(...cells(k))));
    if (list.more) {
      const td = element("td", most[id] === few ? "the oldest " + few + " " : "and more: see Many keys at once");
      if (most[id] === few) {
        const button = element("button", "Show up to 200");
        button.type = "button";
        button.addEventListener("click", () => { most[id] = 200; load(id, state, cells); });
        td.append(button);
      }
      rows.push(row(td));
    }
    if (list.unread) rows.push(row(element("td", list.unread, "bad")));
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
  if (text && text.length > 40) a.className = "long";
  a.append(element("code", text || digest));
  td.append(a);
  return td;
}

const loadUnknown = () => load("unknown", "unknown",
  (k) => [keyLink(k.digest, k.key), scopeOf(k), element("td", duration(k.age_ms), "n"), number(k.attempt), actions(k)]);
const loadRunning = () => load("running", "in-progress", (k) => [keyLink(k.digest, k.key), scopeOf(k), element("td", duration(k.age_ms), "n"),
  element("td", duration(k.lease_ms), "n"), number(k.attempt), code(k.owner || ""), actions(k)]);
