-- BENCH_KEYS keys in turn: one is a hot key, ten thousand are warm ones.
local run, keys = os.getenv("BENCH_RUN") or "run", tonumber(os.getenv("BENCH_KEYS") or "1")
local path, n, made = os.getenv("BENCH_PATH") or "/", 0, {}
for i = 0, keys - 1 do
  made[i] = "POST " .. path .. " HTTP/1.1\r\nHost: bench\r\nContent-Length: 8\r\nIdempotency-Key: " .. run .. "-" .. i ..
    "\r\n\r\namount=5"
end
request = function()
  n = n + 1
  return made[n % keys]
end
