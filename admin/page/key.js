"use strict";
// One key's page: #/key/DIGEST.

const can = {
  unknown: "It may have been executed, or not. Look in the backend for it, then say which.",
  "in-progress": "A request with it is under way. If its proxy is gone, the lease lapses by itself.",
  completed: "Retries get the response below. Nothing needs to be done.",
  omitted: "It was executed, and its response was too large to keep. Retries get 409 and are not executed.",
  expired: "It was executed, and its response is not kept any more. Retries get 410.",
};

function facts(k) {
  const list = element("dl");
  const add = (name, value) => {
    if (value === undefined || value === "") return;
    const dd = element("dd");
    dd.append(element("code", value));
    list.append(element("dt", name), dd);
  };
  add("key", k.key);
  add("scope", scopeOf(k));
  add("attempt", String(k.attempt));
  add("first request", duration(k.age_ms) + " ago");
  add("last change", duration(k.changed_ms) + " ago");
  add("fingerprint", k.fingerprint + "…");
  add("owner", k.owner && k.owner + "…");
  if (k.resolved) add("resolved", "by an operator, the resolver or a later receipt, which gave the response");
  if (k.lease_ms) add("lease lapses", "in " + duration(k.lease_ms) + " unless it is renewed");
  if (k.replay_ms) add("replayed for", duration(k.replay_ms) + " more");
  if (k.expires_in_ms) add("forgotten", "in " + duration(k.expires_in_ms));
  else if (k.state === "unknown") add("held", "until it is resolved");
  if (k.receipt) add("the backend", k.receipt.says + (k.receipt.status ? ", " + k.receipt.status : ""));
  return list;
}

function responseOf(k, digest) {
  const box = element("div", undefined, "response");
  box.append(element("h3", "Response"));
  const head = [String(k.status), ...(k.header || []).map(([name, value]) => name + ": " + value)];
  const shown = element("pre", head.join("\n"), "head");
  shown.tabIndex = 0;
  if (k.body_omitted) {
    box.append(shown, element("p", "Its body was too large to keep (max_response_body)."));
    return box;
  }
  if (!k.body_bytes) {
    box.append(shown, element("p", "It has no body."));
    return box;
  }
  const button = element("button", "Show the body, " + k.body_bytes.toLocaleString("en") + " bytes");
  button.type = "button";
  button.id = "show-body";
  button.addEventListener("click", async () => {
    const body = element("pre", undefined, "body");
    body.tabIndex = 0;
    try {
      const full = await (await ask("keys?body=true&digest=" + digest)).json();
      body.textContent = new TextDecoder().decode(Uint8Array.from(atob(full.body || ""), (c) => c.charCodeAt(0)));
    } catch (e) {
      body.textContent = e.message;
    }
    button.replaceWith(body);
    body.focus();
  });
  box.append(shown, button);
  return box;
}

let shownKey = 0; // which showing is the last
async function showKey(digest) {
  const mine = ++shownKey;
  $("k-digest").textContent = "key:" + digest;
  $("k-state").textContent = "looking it up";
  $("k-state").className = "";
  $("k-can").textContent = "";
  $("k-record").replaceChildren();
  ask("requests?limit=500&key=" + digest).then((r) => r.json()).then((found) => {
    if (mine === shownKey) fill("k-attempts", found.requests.map((e) => requestRow(e, false)), "none that this process still remembers");
  }).catch((e) => { if (mine === shownKey) fill("k-attempts", [row(element("td", e.message, "bad"))]); });
  try {
    const k = await (await ask("keys?digest=" + digest)).json();
    if (mine !== shownKey) return;
    $("k-state").textContent = k.state;
    $("k-state").className = k.state === "completed" ? "good" : k.state === "unknown" ? "bad" : "";
    $("k-can").textContent = can[k.body_omitted ? "omitted" : k.state] || "";
    const buttons = element("p", undefined, "acts");
    buttons.append(...actions(k).childNodes);
    $("k-record").replaceChildren(buttons, facts(k), ...(k.status ? [responseOf(k, digest)] : []));
  } catch (e) {
    if (mine !== shownKey) return;
    const absent = e.status === 404;
    $("k-state").textContent = absent ? "no record" : "not known";
    $("k-can").textContent = absent ? "The next request with this key is executed." : "The proxy could not look: " + e.message;
  }
}

// showOverview leads back to it, at once.
function showOverview() {
  location.hash = "#/";
  $("overview").hidden = false;
  $("key").hidden = true;
}

// route shows what the address says.
function route(moved) {
  const [, digest] = /^#\/key\/([0-9a-f]{12})$/.exec(location.hash) || [];
  $("overview").hidden = Boolean(digest);
  $("key").hidden = !digest;
  if (!digest) {
    drawCharts();
    return;
  }
  showKey(digest);
  if (moved) $("k-digest").focus();
}

$("lookup").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target), key = form.get("key").trim();
  $("found").replaceChildren();
  if (/^key:[0-9a-f]{12}$/i.test(key)) {
    location.hash = "#/key/" + key.slice(4).toLowerCase();
    return;
  }
  const look = async (value) => (await ask("keys?" + new URLSearchParams({ key: value, scope: scopeFrom(form.get("scope")) }))).json();
  try {
    // A client may send its key in quotes, which are not a part of it.
    const bare = /^"(.*)"$/.exec(key)?.[1].replaceAll(/\\(["\\])/g, "$1");
    const k = await look(key).catch((e) => { if (e.status !== 404 || !bare) throw e; return look(bare); });
    location.hash = "#/key/" + k.digest.slice(4);
  } catch (e) {
    $("found").replaceChildren(element("p", e.message + (e.status === 404 ? absence(key) : ""), "bad"));
  }
});

// absence says why there may be no record of what was looked up.
const absence = (key) => /^key:/i.test(key) ? ": what the log calls a key has twelve digits, 0 to 9 and a to f, after key:"
  : ": the key was never here, its time is over, or it has another scope";

window.addEventListener("hashchange", () => route(true));
document.addEventListener("changed", () => { loadUnknown(); loadRunning(); route(false); });
$("load-unknown").addEventListener("click", loadUnknown);
$("load-running").addEventListener("click", loadRunning);

async function start() {
  checkReady(); // for everybody, with or without a token
  await poll(); // which asks for the token, if one is wanted
  route(false);
  loadUnknown();
  loadRunning();
  follow();
  dirty = true;
  drawLive();
  loadPast();
  loadSettings();
}

start();
