"use strict";
// Many keys at once: first which they are, and only then what becomes of them.

const mostMany = 10000, mostListed = 500;
let many = [], manyState = ""; // what was shown, and is meant
let acting = false; // a bulk act is under way

// age reads how old a key must be: 10m, 2h, 90s, 1d.
function age(text) {
  if (!text) return 0;
  const [, n, unit] = /^(\d+(?:\.\d+)?)(s|m|min|h|d)$/.exec(text.trim()) || [];
  if (n === undefined) throw new Error("older than " + JSON.stringify(text) + ": want a number with s, m, h or d, such as 10m");
  return n * { s: 1000, m: 60000, min: 60000, h: 3600000, d: 86400000 }[unit];
}

// listAll are the keys of a filter, the oldest first, a page at a time.
async function listAll(state, scope, older, is) {
  const query = new URLSearchParams({ state, limit: 1000 }), found = [];
  if (scope) query.set("scope", scopeFrom(scope));
  let others = 0, unread;
  for (;;) {
    const list = await (await ask("keys/list?" + query)).json();
    unread = list.unread;
    for (const k of list.keys) {
      if (k.age_ms < older) return { found, others, unread }; // and so are all that follow
      if (!is(k)) others++;
      else if (found.push(k) === mostMany) return { found, others, unread, more: true };
    }
    if (!list.more) return { found, others, unread };
    query.set("after", list.next);
  }
}

// showManyForm leads here.
function showManyForm() {
  showOverview();
  $("many").open = true;
  $("many").scrollIntoView();
  $("many-show").focus({ preventScroll: true });
}

const keysOf = (n) => n.toLocaleString("en") + (n === 1 ? " key" : " keys");

let manyAsked = 0; // which question is the last
async function showMany(event) {
  event.preventDefault();
  if (acting) return;
  const mine = ++manyAsked;
  const form = Object.fromEntries([...new FormData($("many-form"))].map(([k, v]) => [k, v.trim()]));
  many = [];
  $("many-acts").replaceChildren();
  $("many-failed").hidden = $("many-list").hidden = true;
  $("many-said").className = "";
  $("many-said").textContent = "looking";
  try {
    const older = age(form.older);
    let is = () => true;
    if (form.route) {
      const { requests } = await (await ask("requests?" + new URLSearchParams({ route: form.route, limit: 8192 }))).json();
      const its = new Set(requests.map((e) => e.key));
      is = (k) => its.has(k.digest);
    }
    const { found, others, unread, more } = await listAll(form.state, form.scope, older, is);
    if (mine !== manyAsked) return;
    many = found;
    manyState = form.state;
    $("many-said").textContent = (found.length
      ? "A dry run, nothing was changed. It would be " + keysOf(found.length) + (more ? " (the oldest; there are more)" : "") +
        ", the oldest " + duration(found[0].age_ms) + " old, the youngest " + duration(found.at(-1).age_ms) + "."
      : "There is no such key.") +
      (others ? " " + keysOf(others) + " in that state left out: this process remembers no request of theirs on route " + form.route + "." : "") +
      (unread ? " " + unread + "." : "");
    if (!found.length) return;
    fill("many-list", found.slice(0, mostListed).map((k) => row(keyLink(k.digest, k.key), scopeOf(k), element("td", duration(k.age_ms), "n"), number(k.attempt))));
    if (found.length > mostListed) {
      $("many-list").tBodies[0].append(row(element("td", "and " + (found.length - mostListed).toLocaleString("en") + " more", "empty")));
    }
    $("many-list").hidden = false;
    offerActs();
  } catch (e) {
    if (mine !== manyAsked) return;
    $("many-said").className = "bad";
    $("many-said").textContent = e.message;
  }
}

function offerActs() {
  const n = keysOf(many.length);
  const add = (id, name, run) => {
    const b = element("button", name);
    b.id = id;
    b.type = "button";
    b.addEventListener("click", run);
    $("many-acts").append(b);
  };
  if (manyState === "unknown") {
    add("many-free", "None was executed: free " + n, () => actOnMany("keys/resolve", "freed", (k) => ({ action: "retry", owner: k.owner }),
      "Free " + n + "?", "The next request with each of these keys will be executed, also if the first one was.", "Free " + n, false));
    add("many-complete", "All were executed: complete " + n, () => actOnMany("keys/resolve", "completed", (k) => ({ action: "complete", owner: k.owner }),
      "Complete " + n + "?", "Retries with each of these keys will get this response, also if nothing was executed.", "Store it for " + n, true));
  } else {
    add("many-release", "Release " + n, () => actOnMany("keys/release", "released", (k) => ({ owner: k.owner }),
      "Release " + n + "?", "The next request with each of these keys will be executed, also if the one under way goes on.", "Release " + n, false));
  }
}

// locked keeps the filters as they are while keys change: another dry run would take the place of
// the act's progress, and of Stop.
function locked(is) {
  acting = is;
  for (const e of $("many-form").elements) e.disabled = is;
}

async function actOnMany(path, does, more, title, text, yes, withResponse) {
  if (!await confirmed(title, text, yes, withResponse) || acting) return;
  locked(true);
  const given = withResponse ? givenResponse() : {}, all = many, failures = [];
  many = [];
  let stopped = false, done = 0, tried = 0;
  const bar = element("progress"), stop = element("button", "Stop");
  bar.max = all.length;
  bar.setAttribute("aria-label", "keys " + does);
  stop.type = "button";
  stop.addEventListener("click", () => { stopped = true; });
  $("many-said").textContent = keysOf(all.length) + (all.length === 1 ? " is" : " are") + " being " + does + ". Stop leaves the others as they are.";
  $("many-acts").replaceChildren(bar, stop);
  stop.focus();
  for (const k of all) {
    if (stopped) break;
    tried++;
    try {
      await changed(path, k, { ...more(k), ...given });
      done++;
    } catch (e) {
      failures.push([k, e]);
      if (e instanceof TypeError) stopped = true; // nobody answers: the others will meet the same
    }
    bar.value = tried;
  }
  locked(false);
  $("many-acts").replaceChildren();
  $("many-list").hidden = true;
  const left = all.length - tried;
  $("many-said").textContent = keysOf(done) + " " + does + ", " + failures.length.toLocaleString("en") + " failed" +
    (left ? ", " + left.toLocaleString("en") + " not tried" : "") + ".";
  $("many-said").className = failures.length ? "bad" : "good";
  $("many-failed").hidden = !failures.length;
  fill("many-failed", failures.map(([k, e]) => row(keyLink(k.digest, k.key), element("td", e.message, "wide"))), "none");
  $("many-show").focus();
  document.dispatchEvent(new Event("changed"));
}

// Who leaves the page ends the act in the middle.
window.addEventListener("beforeunload", (event) => { if (acting) event.preventDefault(); });
$("many-form").addEventListener("submit", showMany);
// What was shown is not what another filter means.
$("many-form").addEventListener("input", () => {
  manyAsked++;
  many = [];
  $("many-acts").replaceChildren();
  $("many-list").hidden = true;
  $("many-said").textContent = "";
});
