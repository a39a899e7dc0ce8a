"""Python's http.server: writes down each request that it read whole, and
answers with the same line. The class reads the header; bodies are the
handler's to read, so the framing of bodies here is this file's."""
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()


class Broken(Exception):
    pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # header and body in one packet

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.read_and_answer
        raise AttributeError(name)

    def exactly(self, n):
        data = self.rfile.read(n)
        if len(data) != n:
            raise Broken("cut")
        return data

    def line(self):
        line = self.rfile.readline()
        if not line.endswith(b"\r\n"):
            raise Broken("line")
        return line[:-2]

    def chunks(self):
        body = b""
        while True:
            size = int(self.line().split(b";")[0], 16)
            if size == 0:
                break
            body += self.exactly(size)
            if self.line():
                raise Broken("chunk")
        while self.line():
            pass
        return body

    def body(self):
        if "Transfer-Encoding" in self.headers:
            if "Content-Length" in self.headers or self.headers["Transfer-Encoding"].lower() != "chunked":
                raise Broken("coding")
            return self.chunks()
        return self.exactly(int(self.headers.get("Content-Length", "0")))

    def read_and_answer(self):
        try:
            body = self.body()
        except (Broken, ValueError):
            self.close_connection = True
            self.send_error(400)
            return
        line = json.dumps({
            "method": self.command, "target": self.raw_requestline.split(b" ")[1].hex(), "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(), "port": self.client_address[1],
        })
        with lock:
            print(line, flush=True)
        self.send_response(200)
        self.send_header("X-Read-By", "http.server")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(line)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(line.encode())

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
