-- Requests without a key.
wrk.method, wrk.body = "POST", "amount=5"
wrk.path = os.getenv("BENCH_PATH") or "/"
