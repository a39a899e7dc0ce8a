// Usage: node retry.mjs URL KEY BODY
const again = new Set([408, 425, 429, 502, 503, 504]);

function mayRetry(response, text) {
  if (response.headers.get("Idempotent-Replayed") === "true") return false; // a stored answer is the outcome, whatever its status
  if (response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    try {
      const { retryable } = JSON.parse(text);
      if (typeof retryable === "boolean") return retryable; // the proxy knows
    } catch { /* a problem of the backend's */ }
  }
  return again.has(response.status);
}

// One key for the operation, the same on each try.
export async function post(url, key, body, tries = 6) {
  for (let n = 0; ; n++) {
    let wait = (0.5 + Math.random() / 2) * 200 * 2 ** n;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), 30_000); // not AbortSignal.timeout: it lets node end while fetch waits
    try {
      const response = await fetch(url, {
        method: "POST", body, signal: late.signal,
        headers: { "Idempotency-Key": key, "Content-Type": "application/json" },
      });
      const text = await response.text();
      if (n === tries - 1 || !mayRetry(response, text)) return [response.status, text];
      wait = Math.max(wait, 1000 * (Number(response.headers.get("Retry-After")) || 0));
    } catch (error) { // no answer: it may have been executed, which the key takes care of
      if (n === tries - 1) throw error;
    } finally {
      clearTimeout(timer);
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}

// In a browser: call post from your own code, and leave this line out.
if (globalThis.process) console.log(...await post(...process.argv.slice(2)));
