"""An application that is particular: about the name it is called by, and at /strict about everything else."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Particular(BaseHTTPRequestHandler):
    """Answers 400 to any Host but app.example.org."""

    def do_GET(self) -> None:
        """A page."""
        known = self.headers["Host"] == "app.example.org"
        self.say(200 if known else 400, b"hello" if known else b"Invalid HTTP_HOST header")

    def do_OPTIONS(self) -> None:
        """What only somebody with the word gets."""
        welcome = self.headers["Authorization"] == "Bearer opensesame" and self.path == "/strict?x=1"
        self.say(207 if welcome else 403, b"all is well" if welcome else b"no")

    def say(self, status: int, body: bytes) -> None:
        """Answer with this."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("127.0.0.1", int(sys.argv[1])), Particular).serve_forever()
