"""A server that caches prompts by how they begin, as an engine of a language model does, and counts what it had cached; standard library only.

    python prompt_engine.py PORT

POST with a body that has `"messages"`: a line of JSON with the port, and how many of the prompt's bytes were cached, in steps of 64.
GET: how many bytes it was asked for, and how many of them were cached.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STEP = 64


class Engine(ThreadingHTTPServer):
    """An engine whose cache has room for all that it has seen since it was started."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Asked)
        self.port = port
        self.bytes = self.cached = 0
        self._lock = threading.Lock()
        self._known: set[bytes] = set()

    def serve(self, prompt: bytes) -> int:
        """How much of a prompt was cached; from now on all of it is."""
        with self._lock:
            cached = 0
            for end in range(STEP, len(prompt) + 1, STEP):
                if prompt[:end] in self._known:
                    cached = end
                self._known.add(prompt[:end])
            self.bytes += len(prompt)
            self.cached += cached
            return cached


class Asked(BaseHTTPRequestHandler):
    """A connection to it."""

    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        self.answer({"bytes": self.server.bytes, "cached": self.server.cached})

    def do_POST(self) -> None:
        body = self.body()
        prompt = body[max(body.find(b'"messages"'), 0) :]
        cached = self.server.serve(prompt)
        self.answer({"port": self.server.port, "bytes": len(prompt), "cached": cached, "body": len(body)})

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, said: dict[str, int]) -> None:
        line = json.dumps(said).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(line)))
        self.end_headers()
        self.wfile.write(line)

    def log_message(self, *_words: object) -> None:
        """Nothing is logged."""


if __name__ == "__main__":
    Engine(int(sys.argv[1])).serve_forever()
