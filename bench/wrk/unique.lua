-- Every request has a key of its own.
local run = os.getenv("BENCH_RUN") or tostring(os.time())
local path, n = os.getenv("BENCH_PATH") or "/", 0
wrk.headers["Content-Type"] = "application/json"
local head = "POST " .. path .. " HTTP/1.1\r\nHost: bench\r\nContent-Length: 8\r\nIdempotency-Key: " .. run .. "-"
request = function()
  n = n + 1
  return head .. n .. "\r\n\r\namount=5"
end
