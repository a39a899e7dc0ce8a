"use strict";
// Whether it is ready, what is amiss, and what waits for a person: what somebody who was just
// woken reads first.

let readiness = { status: "", checks: {}, degraded: [] }, wrong = []; // what the log's last events say
let waiting = 0, answered = null; // how many keys wait, and when the proxy last answered
let countedMS = 0; // how long ago the keys that wait were counted
const countOld = 90000; // they are counted each minute, unless count_every says otherwise or the store is away

function title() {
  const word = readiness.status, what = word && word !== "ready" ? word : wrong.map((one) => one.event).join();
  document.title = (waiting ? "(" + waiting + ") " : "") + (what ? what + ": " : "") + "IdemProxy";
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

// clock is a time, with its day unless that is today.
const clock = (at) => new Date(at).toDateString() === new Date().toDateString()
  ? new Date(at).toLocaleTimeString("en-GB") : new Date(at).toLocaleString("en-GB");

// What a failure means, by outcome; reference/events.md has all.
const failures = {
  "store-failed": "the store could not answer: refused, nothing was forwarded",
  "lease-lost": "the lease was lost before anything was forwarded",
  "backend-unreachable": "no connection to the backend: nothing was sent, and a retry is safe",
  "backend-busy": "no connection to the backend was free: nothing was sent",
  "backend-cut": "the backend broke the connection off: it may have executed the request",
  "backend-timeout": "the backend did not answer in time: it may have executed the request",
  "failed-open": "the store could not answer: forwarded without protection (fail_open)",
  overloaded: "too much is under way here (max_in_flight, max_buffered, max_per_...): refused",
};

// checkMeans says what follows of a check that fails, before the error itself.
function checkMeans(name, why) {
  if (name === "admin listener") return why;
  if (why.startsWith("ok")) return "a backend is left out: " + why;
  if (name !== "store") return "requests to it are answered with 502 until it can be reached: " + why;
  const lost = wrong.find((one) => one.event === "store_lost");
  return "requests with keys are refused (with fail_open: forwarded without protection) until the store answers" +
    (lost ? "; lost since " + clock(lost.since) : "") + ": " + why;
}

// failing is what failed in the last minute, the most first, and which share of all that is.
function failing() {
  const last = past.samples.at(-1), counts = new Map();
  let all = 0, bad = 0;
  for (const s of past.samples) {
    if (s.at <= last.at - 60000) continue;
    for (const [outcome, rate] of Object.entries(s.requests)) {
      const n = rate * s.over_ms / 1000;
      all += n;
      if (!failures[outcome]) continue;
      bad += n;
      counts.set(outcome, (counts.get(outcome) || 0) + n);
    }
  }
  return { share: all ? bad / all : 0, all, counts: [...counts].sort((a, b) => b[1] - a[1]) };
}

// amiss is all that there is to say, each with its name, and its outcome if it has one.
function amiss(found) {
  const out = readiness.degraded.map((name) => ({ name, why: checkMeans(name, readiness.checks[name]) }));
  if (readiness.status === "not reachable") return out; // all else is old
  for (const [outcome, n] of found.counts) {
    out.push({ name: outcome, outcome, why: Math.round(n).toLocaleString("en") + " in the last minute, " +
      (100 * n / found.all).toFixed(n / found.all < 0.1 ? 1 : 0) + " % of all: " + failures[outcome] });
  }
  for (const one of wrong) {
    if (one.event === "store_lost" && readiness.degraded.includes("store")) continue; // told above
    out.push({ name: one.event, why: "since " + clock(one.since) + ": " + one.text });
  }
  if (waiting) {
    out.push({ name: "keys", many: true, why: (waiting === 1 ? "1 key waits" : waiting.toLocaleString("en") + " keys wait") +
      " for a person" + (countedMS > countOld ? ", as counted " + duration(countedMS) + " ago" : "") +
      ": retries get 409 until somebody says whether the requests were executed" });
  }
  return out;
}

const means = {
  "not ready": "Not ready: it asks balancers to send nothing", draining: "Draining: it is about to stop",
  "not reachable": "Not reachable: this proxy does not answer the page",
};

// judged is how grave it is, and in a few words why.
function judged(found, list) {
  const word = readiness.status;
  if (word === "degraded") {
    const fails = readiness.degraded.some((name) => !readiness.checks[name].startsWith("ok"));
    return fails ? ["bad", "Degraded: part of the traffic is refused"] : ["warn", "Degraded: it serves, with fewer backends"];
  }
  if (word !== "ready") return ["bad", means[word] || word];
  if (found.share >= 0.01) return ["warn", "Ready, but requests fail"];
  return list.some((one) => !one.outcome) ? ["warn", waiting && !wrong.length ? "Ready, but keys wait for a person" : "Ready, but not all is well"] : ["good", "Ready"];
}

function reason(one) {
  const li = element("li");
  li.append(element("b", one.name + ":"), " " + one.why + " ");
  const add = (text, label, name, run) => {
    const b = element("button", text);
    b.type = "button";
    b.dataset.leads = name;
    b.setAttribute("aria-label", label);
    b.addEventListener("click", run);
    li.append(b);
  };
  if (one.outcome) add("Show them", "Show the requests that ended as " + one.outcome, one.outcome, () => showOutcome(one.outcome));
  if (one.many) add("Many at once", "Many keys at once", "many", showManyForm);
  return li;
}

let bannered = ""; // what is shown
function banner() {
  if (!readiness.status) return;
  title();
  const found = failing(), list = amiss(found), [grave, text] = judged(found, list);
  const now = JSON.stringify([grave, text, list]);
  if (now === bannered) return;
  bannered = now;
  $("banner").className = grave;
  if ($("state").textContent !== text) $("state").textContent = text; // a new text is read out
  const focused = document.activeElement.dataset.leads;
  $("reasons").replaceChildren(...list.map(reason));
  if (focused) [...$("reasons").querySelectorAll("button")].find((b) => b.dataset.leads === focused)?.focus();
}

// checkReady asks as a balancer does. Whatever is not an answer is not "ready".
async function checkReady() {
  try {
    const resp = await fetch("readyz", { signal: AbortSignal.timeout(5000) });
    const r = await resp.json();
    answered = new Date();
    readiness = { status: r.status, checks: r.checks || {}, degraded: r.degraded || [] };
  } catch (e) {
    readiness = {
      status: "not reachable", degraded: ["admin listener"], checks: { "admin listener": e.name === "TimeoutError"
        ? "no answer within 5 s" : "no connection: the process has ended, or the way to it is cut" },
    };
  }
  document.body.classList.toggle("stale", readiness.status === "not reachable");
  title();
  banner();
  setTimeout(checkReady, 3000);
}
