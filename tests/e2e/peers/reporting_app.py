"""An application that reports its load, for gunicorn (`threads`) and uvicorn (`tasks`). What its `Load` counts is told at a door of
its own, the port COUNTS, also while each worker is busy.
"""

import asyncio
import os
import socket
import threading
import time

from twisted_lb.report import Load, asgi, wsgi

NAME = os.environ["NAME"]
CAPACITY = int(os.environ.get("CAPACITY", "0")) or None
BUSY_S = 0.1
BLOCK = bytes(65536)

load = Load()


def tell_counts(door: socket.socket) -> None:
    while True:
        client, _ = door.accept()
        with client:
            now = load.seen()
            client.sendall(f"{now.running} {now.waiting} {now.busy}".encode())


threading.Thread(
    target=tell_counts, args=(socket.create_server(("127.0.0.1", int(os.environ["COUNTS"]))),), daemon=True
).start()


def of_threads(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/upload":
        while environ["wsgi.input"].read(1024):
            pass
    if path == "/busy":
        time.sleep(BUSY_S)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Name", NAME)])
    return endless() if path == "/stream" else [b"hello"]


def endless():
    """A body that ends when the client has left."""
    while True:
        yield BLOCK


async def of_tasks(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    path = scope["path"]
    if path == "/upload":
        while (await receive()).get("more_body"):
            pass
    if path == "/busy":
        await asyncio.sleep(BUSY_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-name", NAME.encode())]})
    if path == "/stream":
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.body", "body": b"hello"})


threads = wsgi(of_threads, capacity=CAPACITY, load=load)
tasks = asgi(of_tasks, limit=CAPACITY, load=load)
