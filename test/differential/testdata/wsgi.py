"""An application of gunicorn's: writes down each request that arrived whole, and
answers with the same line."""
import hashlib
import json
import threading

lock = threading.Lock()


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    announced = environ.get("CONTENT_LENGTH")
    if announced and int(announced) != len(body):
        raise ValueError("the body was cut")
    line = json.dumps({
        "method": environ["REQUEST_METHOD"], "target": environ["RAW_URI"].encode("latin-1").hex(), "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(), "port": int(environ["REMOTE_PORT"]),
    })
    with lock:
        print(line, flush=True)
    start_response("200 OK", [
        ("X-Read-By", "gunicorn"), ("Content-Type", "application/json"), ("Content-Length", str(len(line))),
    ])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [line.encode()]
