"""Files of certificates: which key and chain belong together, as certbot, lego, Kubernetes and HAProxy lay them out."""

import os.path
from collections.abc import Iterator, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import AuthorityInformationAccessOID

from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.contexts import try_out
from twisted_lb.tls.disk import Disk
from twisted_lb.tls.flaws import BadCertificate, Flaw, FlawKind
from twisted_lb.tls.known import Known
from twisted_lb.tls.parsing import made_of, names_of, public_bytes
from twisted_lb.tls.pem import Key, Pem, no_certificate, read_pem

# certbot's names, in the folder of one certificate.
_CHAIN: Final = "fullchain.pem"
_KEY: Final = "privkey.pem"
_ENDINGS: Final = (".pem", ".crt", ".cer")
# lego's: the certificate of the CA alone.
_ISSUER: Final = ".issuer.crt"
# A chain longer than this is a pile.
_LONGEST_CHAIN: Final = 10

# Who may read a file beside its owner.
OTHERS: Final = "others"
GROUP: Final = "group"


def load(path: str, disk: Disk, known: Known | None = None) -> tuple[Certificate, ...]:
    """The certificates in a file or a folder, at least one, the first one first; BadCertificate says in one line what is wrong.
    What is `known` and as it was is not read anew.
    """
    entries, known = _entries(path, disk), known or Known()
    if entries is None:
        return known.of(path, disk, _in_file)
    found: dict[str, Certificate] = {}
    for one in _in_folder(path, entries, disk, known):
        found.setdefault(one.fingerprint, one)
    if not found:
        raise BadCertificate(
            f"{path}: there is no certificate with its key in this folder (NAME.pem, NAME.crt, {_CHAIN}){_passed_over(path, entries, disk)}"
        )
    return tuple(found.values())


def _passed_over(path: str, entries: Sequence[str], disk: Disk) -> str:
    """Which files of a folder have certificates of CAs alone, for whoever has taken one for a server's."""
    inner = [one for one in entries if _may_have_one(one) and _entries(os.path.join(path, one), disk) is None]
    cas = [one for one in inner if _read(os.path.join(path, one), disk).certificates]
    return f"; passed over as a CA: {', '.join(cas)}" if cas else ""


def _in_folder(path: str, entries: Sequence[str], disk: Disk, known: Known) -> Iterator[Certificate]:
    """The folder of one certificate of certbot's, or its `live`; else all files with a certificate."""
    if _CHAIN in entries:
        yield from known.of(os.path.join(path, _CHAIN), disk, _in_file)
        return
    for name in entries:
        if name.startswith("."):
            continue
        inner = os.path.join(path, name)
        within = _entries(inner, disk)
        if within is not None:
            if _CHAIN in within:
                yield from known.of(os.path.join(inner, _CHAIN), disk, _in_file)
        elif _may_have_one(name):
            yield from known.of(inner, disk, _in_file_of_a_folder)


def _in_file_of_a_folder(path: str, disk: Disk) -> tuple[Certificate, ...]:
    """What has no certificate there, or those of CAs without a key, is passed over."""
    pem = _read(path, disk)
    if not pem.certificates or (all(map(_is_a_ca, pem.certificates)) and not _is_a_server_s(pem, disk)):
        return ()
    return tuple(_with_keys(pem, disk))


def _is_a_server_s(pem: Pem, disk: Disk) -> bool:
    """Whether CAs have a key with them; or one beside them, and name a host: `openssl req -x509` makes a server's certificate a CA,
    and a CA of one's own, which lies there with its key too, names none.
    """
    try:
        return bool(pem.keys or (any(map(names_of, pem.certificates)) and _found_beside(pem.path, disk)))
    except (ValueError, x509.DuplicateExtension):
        return False


def _may_have_one(name: str) -> bool:
    """Whether a file of a folder may have a certificate, by its name."""
    is_a_key = name == _KEY or name.endswith(("-key.pem", ".key.pem"))
    return name.endswith(_ENDINGS) and not name.endswith(_ISSUER) and not is_a_key and not name.startswith(".")


def _in_file(path: str, disk: Disk) -> tuple[Certificate, ...]:
    pem = _read(path, disk)
    if not pem.certificates:
        raise no_certificate(path, disk.contents(path))
    return tuple(_with_keys(pem, disk))


def _entries(path: str, disk: Disk) -> Sequence[str] | None:
    try:
        return disk.entries(path)
    except OSError as error:
        raise BadCertificate(f"{path}: {_why(error)}") from None


def _read(path: str, disk: Disk) -> Pem:
    try:
        return read_pem(path, disk.contents(path))
    except BadCertificate:
        raise
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path, or a pipe.
        raise BadCertificate(f"{path}: {_why(error)}") from None


def _why(error: OSError | ValueError) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _with_keys(pem: Pem, disk: Disk) -> Iterator[Certificate]:
    """The certificates of a file, one for each of its keys, or for that beside it."""
    keys = pem.keys or _beside(pem.path, disk)
    for key in keys:
        leaf = next((one for one in pem.certificates if public_bytes(one.public_key()) == key.public), None)
        if leaf is None:
            whose = "the key in it" if key.path == pem.path else f"the key {key.path}"
            raise BadCertificate(f"{pem.path}: {whose} does not belong to {_which(pem)}")
        yield _certificate(pem, leaf, key, disk)


def _which(pem: Pem) -> str:
    return "its certificate" if len(pem.certificates) == 1 else "any of its certificates"


def _beside(path: str, disk: Disk) -> tuple[Key, ...]:
    """The key beside a chain."""
    keys = _found_beside(path, disk)
    if not keys:
        stem = os.path.splitext(os.path.basename(path))[0]
        raise BadCertificate(f"{path}: has no key, and there is none beside it ({stem}.key, {stem}-key.pem, {_KEY})")
    return keys


def _found_beside(path: str, disk: Disk) -> tuple[Key, ...]:
    """The same, empty where there is none."""
    folder, name = os.path.split(path)
    stem = os.path.splitext(name)[0]
    for beside in dict.fromkeys((f"{stem}.key", f"{stem}-key.pem", f"{stem}.key.pem", f"{name}.key", _KEY)):
        other = os.path.join(folder, beside)
        try:
            data = disk.contents(other)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise BadCertificate(f"{other}: {_why(error)}") from None
        keys = read_pem(other, data).keys
        if not keys:
            raise BadCertificate(f"{other}: has no private key")
        return keys
    return ()


def _certificate(pem: Pem, leaf: x509.Certificate, key: Key, disk: Disk) -> Certificate:
    flaws = list(_readable(key, disk))
    chain, more = _chain(pem.path, leaf, [one for one in pem.certificates if one != leaf])
    flaws += more
    sources = tuple(dict.fromkeys((pem.path, key.path)))
    try:
        found = made_of(leaf, chain, key.pem, sources, tuple(flaws))
    except (ValueError, x509.DuplicateExtension) as error:
        raise BadCertificate(f"{pem.path}: the certificate cannot be read: {error}") from None
    refusal = try_out(found)
    if refusal:
        raise BadCertificate(f"{pem.path}: OpenSSL takes no such certificate: {refusal}")
    return found


def _readable(key: Key, disk: Disk) -> Iterator[Flaw]:
    """Who may read a key: everybody is refused, as the key is everybody's then; a group is a flaw."""
    try:
        readers = disk.readers(key.path)
    except OSError as error:
        raise BadCertificate(f"{key.path}: {_why(error)}") from None
    if readers == OTHERS:
        hint = f"chmod o-r {key.path}"
        raise BadCertificate(f"{key.path}: everybody on this machine can read this private key; {hint}")
    if readers == GROUP:
        yield Flaw(FlawKind.READABLE, f"{key.path}: the group of this private key's file can read it")


def _chain(
    path: str, leaf: x509.Certificate, others: list[x509.Certificate]
) -> tuple[tuple[x509.Certificate, ...], list[Flaw]]:
    """A chain from the leaf on, whatever the order in the file; what is in no chain is left out, and a flaw."""
    chain = [leaf]
    left = list(others)
    while len(chain) < _LONGEST_CHAIN:
        issuer = next((one for one in left if _issued(chain[-1], one)), None)
        if issuer is None:
            break
        chain.append(issuer)
        left.remove(issuer)
    flaws = []
    strangers = [one for one in left if public_bytes(one.public_key()) != public_bytes(leaf.public_key())]
    if strangers and not any(not _is_a_ca(one) for one in strangers):
        subject = strangers[0].subject.rfc4514_string()
        flaws.append(Flaw(FlawKind.CHAIN, f"{path}: {subject} is no part of the chain, and is left out"))
    if len(chain) == 1 and _lacks_issuer(leaf):
        issuer_name = leaf.issuer.rfc4514_string()
        text = f"{path}: the intermediate certificate {issuer_name} is missing: many clients refuse such a chain"
        flaws.append(Flaw(FlawKind.CHAIN, text))
    return tuple(chain), flaws


def _issued(one: x509.Certificate, by: x509.Certificate) -> bool:
    """Whether a certificate was issued by another one; one that has signed itself has no issuer."""
    if one.issuer != by.subject or one.issuer == one.subject:
        return False
    try:
        one.verify_directly_issued_by(by)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _is_a_ca(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _lacks_issuer(leaf: x509.Certificate) -> bool:
    """Whether somebody else has issued it who says where that one's certificate is: public CAs do, and never sign with a root."""
    if leaf.issuer == leaf.subject:
        return False
    try:
        found = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in found)
