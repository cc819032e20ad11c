"""A certificate authority for tests: certificates of any shape, their files, and revocation lists."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from twisted_lb.config.files import contents, entries_of, readers_of
from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.files import load

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
ECDSA, RSA = trustme.KeyType.ECDSA, trustme.KeyType.RSA


class Disk:
    """The disk as it is."""

    def contents(self, path: str) -> bytes:
        return contents(Path(path))

    def entries(self, path: str) -> tuple[str, ...] | None:
        return entries_of(Path(path))

    def readers(self, path: str) -> str:
        return readers_of(Path(path))


DISK = Disk()


class Authority:
    """A CA, whose files are in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.ca = trustme.CA(organization_name=name)
        self.folder = folder
        self.pem = self.ca.cert_pem.bytes()
        self.path = self.write(f"{name}.pem", self.pem)

    def write(self, name: str, *parts: bytes, mode: int = 0o600) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(parts))
        path.chmod(mode)
        return str(path)

    def leaf(self, *names: str, key_type: trustme.KeyType = ECDSA, **more: object) -> trustme.LeafCert:
        return self.ca.issue_cert(*names, key_type=key_type, **more)

    def certificate(self, *names: str, key_type: trustme.KeyType = ECDSA, **more: object) -> Certificate:
        """A certificate as it is read."""
        leaf = self.leaf(*names, key_type=key_type, **more)
        path = self.write("one.pem", chain_of(leaf), leaf.private_key_pem.bytes())
        [found] = load(path, DISK)
        return found

    def crl(self, revoked: Iterable[trustme.LeafCert] = (), ends: dt.datetime = NOW + 7 * DAY) -> bytes:
        """A revocation list, PEM."""
        issuer = x509.load_pem_x509_certificate(self.pem)
        key = load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        made = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
        made = made.last_update(ends - 14 * DAY).next_update(ends)
        for leaf in revoked:
            gone = x509.RevokedCertificateBuilder().serial_number(parsed(leaf).serial_number)
            made = made.add_revoked_certificate(gone.revocation_date(NOW - DAY).build())
        return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def chain_of(leaf: trustme.LeafCert) -> bytes:
    return b"".join(one.bytes() for one in leaf.cert_chain_pems)


def parsed(leaf: trustme.LeafCert) -> x509.Certificate:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())


def key_of(leaf: trustme.LeafCert) -> bytes:
    return leaf.private_key_pem.bytes()
