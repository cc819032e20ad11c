"""What a TLS handshake has agreed on with a client: version, cipher, server name (SNI), and the certificate that the client has shown."""

from typing import Final

from mypy_extensions import mypyc_attr


# No cycle leads through it: texts are all that it refers to.
@mypyc_attr(acyclic=True)
class Agreed:
    """What was agreed on for one connection, as logs and explanations tell it, long after that. `version` is as `TLSv1.3`, `cipher` in
    OpenSSL's words, `server_name` what the client has asked for, `resumed` whether a session was. `subject` and `fingerprint`
    (SHA-256) are of the certificate that the client has shown; empty where it has shown none, or one without that.
    """

    __slots__ = ("cipher", "fingerprint", "resumed", "server_name", "subject", "version")

    def __init__(
        self,
        version: str,
        cipher: str,
        server_name: str = "",
        *,
        resumed: bool = False,
        subject: str = "",
        fingerprint: str = "",
    ) -> None:
        self.version: Final = version
        self.cipher: Final = cipher
        self.server_name: Final = server_name
        self.resumed: Final = resumed
        self.subject: Final = subject
        self.fingerprint: Final = fingerprint

    def __str__(self) -> str:
        """In a few words: `TLSv1.3 (www.example.com), resumed, certificate CN=alice`."""
        name = f" ({self.server_name})" if self.server_name else ""
        shown = self.subject or self.fingerprint
        return f"{self.version}{name}{', resumed' if self.resumed else ''}{f', certificate {shown}' if shown else ''}"

    def __repr__(self) -> str:
        return f"<Agreed {self}>"
