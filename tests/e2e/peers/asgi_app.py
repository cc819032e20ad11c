"""What the real-peer tests ask uvicorn for; wsgi_app.py answers the same."""

import asyncio
import hashlib
import json
from collections import defaultdict
from urllib.parse import parse_qs

WAIT_S = 10
BLOCK = bytes(range(256)) * 256

# By name: what one request waits for until another one says so.
events: "defaultdict[str, asyncio.Event]" = defaultdict(asyncio.Event)


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    assert scope["type"] == "http"
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    handler = HANDLERS.get(scope["path"], info)
    await handler(scope, query, receive, send)


async def echo(receive, send):
    """A WebSocket that says what it hears."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


async def start(send, *fields):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"), *fields]})


async def answer(send, body: bytes):
    await start(send, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.body", "body": body})


async def waited(name: str) -> bool:
    try:
        await asyncio.wait_for(events[name].wait(), WAIT_S)
    except TimeoutError:
        return False
    return True


async def info(scope, query, receive, send):
    """What arrived."""
    fields = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    told = {"method": scope["method"], "target": target.decode(), "fields": fields}
    await answer(send, json.dumps(told).encode())


async def digest(scope, query, receive, send):
    """Size and hash of the body; `name` is set once its first bytes are here."""
    seen = hashlib.sha256()
    size = 0
    more = True
    while more:
        message = await receive()
        piece = message.get("body", b"")
        more = message.get("more_body", False)
        if piece and "name" in query:
            events[query["name"]].set()
        size += len(piece)
        seen.update(piece)
    await answer(send, b"%d %s" % (size, seen.hexdigest().encode()))


async def blocks(scope, query, receive, send):
    """A body of so many blocks, chunked or of known length."""
    count = int(query["count"])
    await start(send, *([(b"content-length", b"%d" % (count * len(BLOCK)))] if "length" in query else []))
    for _ in range(count):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    await send({"type": "http.response.body"})


async def drip(scope, query, receive, send):
    """A first line; the last one when told to go on."""
    await start(send)
    await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"last\n" if await waited(query["name"]) else b"never\n"})


async def go(scope, query, receive, send):
    events[query["name"]].set()
    await answer(send, b"gone")


async def wait(scope, query, receive, send):
    await answer(send, b"yes" if await waited(query["name"]) else b"no")


HANDLERS = {"/digest": digest, "/blocks": blocks, "/drip": drip, "/go": go, "/wait": wait}
