"""Revocation: the CAs of clients and their lists (CRL), as OpenSSL takes them."""

from twisted_lb.tls.flaws import BadCertificate
from twisted_lb.tls.pem import in_pem, read_cas, read_crls


def with_revocation(cas_path: str, cas: bytes, crl_path: str, crl: bytes) -> tuple[bytes, bytes, float]:
    """CAs and their revocation lists as PEM, and when the first of these is stale. BadCertificate for what is neither, and for
    lists of other CAs: with those nobody would get in.
    """
    authorities = read_cas(cas_path, cas)
    if not crl_path:
        return in_pem(authorities), b"", 0.0
    lists = read_crls(crl_path, crl)
    for one in lists:
        issuers = [ca for ca in authorities if ca.subject == one.issuer]
        if not any(one.is_signature_valid(ca.public_key()) for ca in issuers):  # type: ignore[arg-type]
            issuer = one.issuer.rfc4514_string()
            raise BadCertificate(f"{crl_path}: is the revocation list of {issuer}, which is not in {cas_path}")
    ends = [one.next_update_utc.timestamp() for one in lists if one.next_update_utc is not None]
    return in_pem(authorities), in_pem(lists), min(ends, default=float("inf"))
