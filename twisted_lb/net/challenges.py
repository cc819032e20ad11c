"""ACME's HTTP challenge (RFC 8555 8.3): answered from a directory, as certbot and others write it there (webroot)."""

import errno
import os
import stat
from typing import Final

from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead

_PATH: Final = b"/.well-known/acme-challenge/"
# RFC 8555 8.3: base64url; in no file system is such a name anything but a file of the directory.
_TOKEN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST_TOKEN: Final = 255
# A key authorization has some 90 bytes.
_MOST_BYTES: Final = 4096


class Challenges:
    """The challenges in a webroot: files below `.well-known/acme-challenge`, each asked for by its token on any host."""

    def __init__(self, webroot: str) -> None:
        self.webroot: Final = webroot
        self._directory: Final = os.path.join(os.fsencode(webroot), _PATH.strip(b"/"))

    def answer(self, head: RequestHead) -> tuple[ResponseHead, bytes] | None:
        """Head and body of the answer to a request for a challenge that is there; None for any other request, which goes on as usual."""
        if head.method not in (b"GET", b"HEAD") or not head.target.startswith(_PATH):
            return None
        token = head.target[len(_PATH) :].partition(b"?")[0]
        if not token or len(token) > _LONGEST_TOKEN or not _TOKEN.issuperset(token):
            return None
        body = self._read(token)
        if body is None:
            return None
        lines = b"Content-Type: text/plain\r\nContent-Length: %d\r\nCache-Control: no-store\r\n" % len(body)
        return ResponseHead(200, b"200 OK", lines, len(body), persistent=True, dated=False), body

    def _read(self, token: bytes) -> bytes | None:
        """What is in a file; None where there is none, or it is no short regular one."""
        try:
            fd = os.open(os.path.join(self._directory, token), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (
                errno.ENOENT,
                errno.ENOTDIR,
                errno.EACCES,
                errno.ELOOP,
                errno.ENAMETOOLONG,
                errno.ENXIO,
            ):
                raise
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            body = os.read(fd, _MOST_BYTES + 1)
        finally:
            os.close(fd)
        return body if len(body) <= _MOST_BYTES else None

    def __repr__(self) -> str:
        return f"<Challenges in {self.webroot}>"
