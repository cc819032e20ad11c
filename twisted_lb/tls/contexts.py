"""Contexts: what OpenSSL makes handshakes with, by Mozilla's presets (https://wiki.mozilla.org/Security/Server_Side_TLS)."""

import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.memory_file import memory_file
from twisted_lb.tls.settings import PolicySettings

# Mozilla's `intermediate`, version 5.7: forward secrecy and AEAD alone.
_INTERMEDIATE: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-CHACHA20-POLY1305",
)
# RFC 7919's ffdhe2048, without which OpenSSL offers no DHE.
_FFDHE2048: Final = b"""-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
# The oldest version that each preset speaks.
PRESETS: Final = {"intermediate": ssl.TLSVersion.TLSv1_2, "modern": ssl.TLSVersion.TLSv1_3}
# What we speak with backends.
PROTOCOLS: Final = ("http/1.1",)
# A ticket costs 20 of a handshake's 270 microseconds; a second one would save a client that connects twice at once a tenth of one.
_TICKETS: Final = 1
_ASKS: Final = {"off": ssl.CERT_NONE, "request": ssl.CERT_OPTIONAL, "require": ssl.CERT_REQUIRED}

# Told of the host that a client names, or None; says the alert that refuses it, or None.
NameHeard = Callable[[Any, str | None, ssl.SSLContext], int | None]


def context_of(policy: PolicySettings, certificates: Iterable[Certificate] = ()) -> ssl.SSLContext:
    """A context of a policy, with these certificates side by side (one of each kind of key). It is never changed later: what is in
    use must not be.

    Clients choose among ciphers, as Mozilla has it: all of them are good, and a client knows what it is quick at. Early data is
    never accepted, as nobody could tell a replay.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = PRESETS[policy.preset]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = _TICKETS
    context.set_ciphers(policy.ciphers or ":".join(_INTERMEDIATE))
    # Of the context switched to it is this list that counts.
    if policy.protocols:
        context.set_alpn_protocols(policy.protocols)
    with memory_file(_FFDHE2048) as path:
        context.load_dh_params(path)
    context.verify_mode = _ASKS[policy.client_certificate]
    if policy.client_ca:
        # The store of the context switched to is asked, the flags are those of the first one: all have both.
        with memory_file(policy.client_ca + policy.crl) as path:
            context.load_verify_locations(path)
        if policy.crl:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    for certificate in certificates:
        load_into(context, certificate)
    return context


def load_into(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Have a certificate in a context that nobody uses yet; ssl.SSLError for what OpenSSL refuses."""
    with memory_file(certificate.key_pem + certificate.chain_pem) as path:
        context.load_cert_chain(path, password=_no_passphrase)


def _no_passphrase() -> str:
    # Else OpenSSL would ask whoever started us. An encrypted key is refused before.
    raise ValueError("the key is encrypted")


def try_out(certificate: Certificate, ciphers: str = "") -> str:
    """Why OpenSSL does not take a certificate, such as for a key that is too short, by its usual level of security or that of some
    ciphers; empty where it does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers:
        context.set_ciphers(ciphers)
    try:
        load_into(context, certificate)
    except ssl.SSLError as error:
        return (error.reason or str(error)).lower().replace("_", " ")
    return ""


def hear_names(context: ssl.SSLContext, heard: NameHeard) -> None:
    """Have the host told that each client of a context names. Not by the property of the class itself, which decodes names by IDNA
    of 2003 and prints a traceback for one that is none.
    """
    plain: Any = ssl.SSLContext.__mro__[1]
    plain.sni_callback.__set__(context, heard)
