// Usage: node retry.mjs URL KEY BODY
const again = new Set([409, 425, 429, 500, 502, 503, 504]);

// One key for the operation, the same on each try.
async function post(url, key, body, tries = 6) {
  for (let n = 0; ; n++) {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), 10_000); // not AbortSignal.timeout: it lets node end while fetch waits
    try {
      const response = await fetch(url, {
        method: "POST", body, signal: late.signal,
        headers: { "Idempotency-Key": key, "Content-Type": "application/json" },
      });
      const text = await response.text();
      if (!again.has(response.status) || n === tries - 1) return [response.status, text];
    } catch (error) { // no answer: it may have been executed, which the key takes care of
      if (n === tries - 1) throw error;
    } finally {
      clearTimeout(timer);
    }
    await new Promise((done) => setTimeout(done, (0.5 + Math.random() / 2) * 200 * 2 ** n));
  }
}

console.log(...await post(...process.argv.slice(2)));
