"use strict";
// The log of requests: what the process has kept, and what comes while it is looked at.

let seen = []; // the newest first
let paused = false, dirty = false, missed = 0;
const mostSeen = 500, narrow = matchMedia("(max-width: 640px)");

const filters = () => Object.fromEntries([...new FormData($("filters"))].map(([k, v]) => [k, v.trim()]).filter(([, v]) => v));

// matches is what /requests looks for, for those that come live.
function matches(e, f) {
  const digest = (f.key || "").toLowerCase().replace("key:", "");
  const status = (f.status || "").toLowerCase();
  return (!f.outcome || f.outcome.split(",").includes(e.outcome)) && (!f.route || (e.route || "default") === f.route) &&
    (!status || String(e.status) === status || (status.endsWith("xx") && String(e.status)[0] === status[0])) &&
    (!digest || e.key === "key:" + digest) && (!f.request_id || e.request_id === f.request_id);
}

// merge puts requests among those seen, each once.
function merge(all) {
  const bySeq = new Map(seen.map((e) => [e.seq, e]));
  for (const e of all) bySeq.set(e.seq, e);
  seen = [...bySeq.values()].sort((a, b) => b.seq - a.seq).slice(0, mostSeen);
  dirty = true;
}

let question = 0; // which one is the last
async function loadRequests() {
  const mine = ++question, form = filters();
  try {
    const found = await (await ask("requests?" + new URLSearchParams({ ...form, limit: mostSeen }))).json();
    if (mine !== question) return; // the filters have changed since
    seen = seen.filter((e) => matches(e, form));
    merge(found.requests);
    $("filter-error").textContent = "";
  } catch (e) {
    if (mine === question) $("filter-error").textContent = e.message;
  }
}

// became is the outcome; which part of a mismatch differed; what the backend said of an
// attempt in doubt; and what a request would have met that was only observed.
const became = (e) => e.outcome + (e.differs ? " (another " + e.differs.replaceAll(",", " and ") + ")" : "") + (e.settlement ? ", " + e.settlement : "") +
  (e.would ? " (would: " + e.would + ")" : "");

// took is the time in all; narrow screens show beside it where it went.
function took(e) {
  const td = number(e.ms, 2);
  const parts = [["store", e.store_ms], ["backend", e.backend_ms]].filter(([, ms]) => ms);
  if (parts.length) td.dataset.parts = parts.map(([name, ms]) => name + " " + ms.toLocaleString("en", { maximumFractionDigits: 2 })).join(", ");
  return td;
}

function requestRow(e, withKey) {
  const cells = [new Date(e.at).toLocaleTimeString("en-GB"), became(e),
    element("td", String(e.status), e.status < 400 ? "n" : "n bad"), code((e.method || "") + " " + (e.path || ""))];
  if (withKey) cells.push(keyLink(e.key));
  else cells.push(e.attempt ? number(e.attempt) : element("td", ""), code(e.client || ""), code(e.request_id || ""), e.ending || "");
  cells.push(e.store_ms ? number(e.store_ms, 2) : element("td", ""), e.backend_ms ? number(e.backend_ms, 2) : element("td", ""), took(e), element("td", e.error || "", "wide"));
  return row(...cells);
}

function drawLive() {
  if (dirty && !paused) {
    dirty = false;
    const most = narrow.matches ? 20 : 50;
    fill("live", seen.slice(0, most).map((e) => named(String(e.seq), requestRow(e, true))), "none");
    $("missed").textContent = (seen.length > most ? "The newest " + most + " of these; the filters narrow them. " : "") +
      (missed ? missed + " came too fast to be shown" : "");
  }
  setTimeout(drawLive, 250);
}

async function follow() {
  try {
    const reader = (await ask("events")).body.pipeThrough(new TextDecoderStream()).getReader();
    loadRequests(); // what came before, and nothing in between is lost
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      const parts = text.split("\n\n"), come = [];
      text = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").find((l) => l.startsWith("data: "));
        if (!data) continue;
        if (part.startsWith("event: missed")) missed += Number(data.slice(6));
        else come.push(JSON.parse(data.slice(6)));
      }
      const form = filters();
      merge(come.filter((e) => matches(e, form)));
    }
  } catch { /* tried again below; the banner says what is wrong */ }
  seen = []; // another process counts anew
  setTimeout(follow, 1000);
}

// showOutcome leads to the requests that ended so.
function showOutcome(outcome) {
  showOverview();
  const field = $("filters").elements.outcome;
  field.value = outcome;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  $("h-live").scrollIntoView();
  field.focus({ preventScroll: true });
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  dirty = true;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
});
$("filters").addEventListener("input", () => { seen = []; dirty = true; loadRequests(); });
$("filters").addEventListener("submit", (event) => event.preventDefault());
