"""A backend with a page whose script opens a WebSocket, which sends back what it gets; each request is a line on stdout."""

import base64
import hashlib
import socket
import socketserver
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAGE = b"""<!doctype html><title>WebSocket</title><script>
const socket = new WebSocket('wss://' + location.host + '/echo')
socket.binaryType = 'arraybuffer'
let got = 0
socket.onopen = () => { socket.send('hello'); socket.send(new Uint8Array(300000)) }
socket.onmessage = event => {
  got += event.data.length || event.data.byteLength
  if (got == 300005) socket.close(1000)
}
socket.onclose = event => {
  const page = performance.getEntriesByType('navigation')[0].nextHopProtocol
  fetch(`/said?got=${got}&code=${event.code}&clean=${event.wasClean}&page=${page}`)
}
</script>"""


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while head := self._head():
            line = head.partition(b"\r\n")[0]
            sys.stdout.write(line.decode() + "\n")
            sys.stdout.flush()
            if line.startswith(b"GET /echo "):
                self._switch(head)
                return
            body = PAGE if line.startswith(b"GET / ") else b"ok"
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )

    def _head(self) -> bytes:
        head = b""
        while (line := self.rfile.readline()) not in (b"", b"\r\n"):
            head += line
        return head

    def _switch(self, head: bytes) -> None:
        (key,) = [
            line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")
        ]
        accept = base64.b64encode(hashlib.sha1(key.strip() + GUID).digest())
        lines = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n\r\n")
        while self._echo():
            pass

    def _echo(self) -> bool:
        first, second = self.rfile.read(2)
        wide = {126: 2, 127: 8}.get(second & 127, 0)
        size = int.from_bytes(self.rfile.read(wide), "big") if wide else second & 127
        mask = self.rfile.read(4)
        data = bytes(byte ^ mask[at & 3] for at, byte in enumerate(self.rfile.read(size)))
        length = bytes((126,)) + size.to_bytes(2, "big") if size < 1 << 16 else bytes((127,)) + size.to_bytes(8, "big")
        self.wfile.write(bytes((first,)) + (bytes((size,)) if size < 126 else length) + data)
        return first & 15 != 8


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    address_family = socket.AF_INET


with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.serve_forever()
