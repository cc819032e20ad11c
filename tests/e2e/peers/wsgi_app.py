"""What the real-peer tests ask gunicorn for; asgi_app.py answers the same."""

import hashlib
import json
import threading
from collections import defaultdict
from urllib.parse import parse_qs

WAIT_S = 10
BLOCK = bytes(range(256)) * 256

# By name: what one request waits for until another one says so.
events: "defaultdict[str, threading.Event]" = defaultdict(threading.Event)


def app(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    handler = HANDLERS.get(environ["PATH_INFO"], info)
    return handler(environ, query, start_response)


def answer(start_response, body: bytes, kind: str = "text/plain"):
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def info(environ, query, start_response):
    """What arrived."""
    fields = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    told = {"method": environ["REQUEST_METHOD"], "target": environ["RAW_URI"], "fields": fields}
    return answer(start_response, json.dumps(told).encode(), "application/json")


def digest(environ, query, start_response):
    """Size and hash of the body; `name` is set once its first KiB, which is what gunicorn reads, is here."""
    source = environ["wsgi.input"]
    seen = hashlib.sha256()
    piece = source.read(1024)
    if "name" in query:
        events[query["name"]].set()
    size = 0
    while piece:
        size += len(piece)
        seen.update(piece)
        piece = source.read(65536)
    return answer(start_response, b"%d %s" % (size, seen.hexdigest().encode()))


def blocks(environ, query, start_response):
    """A body of so many blocks, chunked or of known length."""
    count = int(query["count"])
    length = [("Content-Length", str(count * len(BLOCK)))] if "length" in query else []
    start_response("200 OK", [("Content-Type", "application/octet-stream"), *length])
    return (BLOCK for _ in range(count))


def drip(environ, query, start_response):
    """A first line; the last one when told to go on."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first\n"
    yield b"last\n" if events[query["name"]].wait(WAIT_S) else b"never\n"


def go(environ, query, start_response):
    events[query["name"]].set()
    return answer(start_response, b"gone")


def wait(environ, query, start_response):
    return answer(start_response, b"yes" if events[query["name"]].wait(WAIT_S) else b"no")


HANDLERS = {"/digest": digest, "/blocks": blocks, "/drip": drip, "/go": go, "/wait": wait}
