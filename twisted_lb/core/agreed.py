"""What is known of a client's connection, for logs and explanations: what a TLS handshake has agreed on with it (version, cipher, server
name, the certificate that it has shown), and what a balancer in front has told of it (TLVs of the PROXY protocol).
"""

from typing import Final

from mypy_extensions import mypyc_attr


# No cycle leads through it: texts are all that it refers to.
@mypyc_attr(acyclic=True)
class ToldByProxy:
    """What a balancer in front has told of a connection, beside its addresses; empty where it has not. All is printable ASCII, and not long.

    `authority` is the host that the client has asked it for, `alpn` the protocol of the two, `unique_id` its own name for the connection;
    `tls_version`, `tls_cipher` and `client_cn`, the common name in the client's certificate, are of its TLS, and `client_verified` says
    whether it has found that certificate to be good. `aws_vpce_id`, `azure_pel_id` and `gcp_conn_id` are the private endpoint that the
    client came by, of AWS, Azure or Google.
    """

    __slots__ = (
        "alpn", "authority", "aws_vpce_id", "azure_pel_id", "client_cn", "client_verified", "gcp_conn_id", "tls_cipher", "tls_version",
        "unique_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        authority: str = "",
        alpn: str = "",
        unique_id: str = "",
        tls_version: str = "",
        tls_cipher: str = "",
        client_cn: str = "",
        client_verified: bool = False,
        aws_vpce_id: str = "",
        azure_pel_id: str = "",
        gcp_conn_id: str = "",
    ) -> None:
        self.authority: Final = authority
        self.alpn: Final = alpn
        self.unique_id: Final = unique_id
        self.tls_version: Final = tls_version
        self.tls_cipher: Final = tls_cipher
        self.client_cn: Final = client_cn
        self.client_verified: Final = client_verified
        self.aws_vpce_id: Final = aws_vpce_id
        self.azure_pel_id: Final = azure_pel_id
        self.gcp_conn_id: Final = gcp_conn_id

    @property
    def said(self) -> bool:
        """Whether anything was told."""
        return bool(
            self.authority
            or self.alpn
            or self.unique_id
            or self.tls_version
            or self.tls_cipher
            or self.client_cn
            or self.aws_vpce_id
            or self.azure_pel_id
            or self.gcp_conn_id
        )

    def __str__(self) -> str:
        """In a few words: `TLSv1.3 (www.example.com), certificate CN=alice, id 1b2c`."""
        name = f"({self.authority})" if self.authority else ""
        words = [" ".join(filter(None, (self.tls_version, name)))]
        if self.client_cn:
            words.append(f"certificate CN={self.client_cn}{'' if self.client_verified else ' (not verified)'}")
        words.append(f"id {self.unique_id}" if self.unique_id else "")
        endpoints = (self.aws_vpce_id, self.azure_pel_id, self.gcp_conn_id)
        words += [f"endpoint {endpoint}" for endpoint in endpoints if endpoint]
        return ", ".join(filter(None, words)) or f"protocol {self.alpn}"

    def __repr__(self) -> str:
        return f"<ToldByProxy {self}>"


# As above.
@mypyc_attr(acyclic=True)
class Agreed:
    """What was agreed on for one connection, as logs and explanations tell it, long after that. `version` is as `TLSv1.3`, `cipher` in
    OpenSSL's words, `server_name` what the client has asked for, `resumed` whether a session was. `subject` and `fingerprint`
    (SHA-256) are of the certificate that the client has shown; empty where it has shown none, or one without that. `told` is what a
    balancer in front has told, None for nothing; where that alone is known, the client having come in the clear, `version` is empty.
    """

    __slots__ = ("cipher", "fingerprint", "resumed", "server_name", "subject", "told", "version")

    def __init__(
        self,
        version: str,
        cipher: str,
        server_name: str = "",
        *,
        resumed: bool = False,
        subject: str = "",
        fingerprint: str = "",
        told: ToldByProxy | None = None,
    ) -> None:
        self.version: Final = version
        self.cipher: Final = cipher
        self.server_name: Final = server_name
        self.resumed: Final = resumed
        self.subject: Final = subject
        self.fingerprint: Final = fingerprint
        self.told: Final = told

    def __str__(self) -> str:
        """In a few words: `TLSv1.3 (www.example.com), resumed, certificate CN=alice`."""
        name = f" ({self.server_name})" if self.server_name else ""
        shown = self.subject or self.fingerprint
        return f"{self.version}{name}{', resumed' if self.resumed else ''}{f', certificate {shown}' if shown else ''}"

    def __repr__(self) -> str:
        return f"<Agreed {self}>"
