"""Files of certificates: how keys and chains lie together, and what is said of those that do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from authority import DAY, DISK, ECDSA, NOW, RSA, Authority, chain_of, key_of, parsed
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from handshakes import serving_of, shake

from twisted_lb.tls import files
from twisted_lb.tls.files import load
from twisted_lb.tls.flaws import BadCertificate, FlawKind
from twisted_lb.tls.known import Known


@pytest.fixture
def house(tmp_path):
    return Authority(tmp_path / "own")


@pytest.fixture
def leaf(house):
    return house.leaf("www.example.com", "example.com", "192.0.2.1", "2001:db8::1")


class Told:
    """A disk where somebody can read what another one cannot."""

    def __init__(self, who):
        self.who = who

    def readers(self, path):
        return self.who

    contents, entries = staticmethod(DISK.contents), staticmethod(DISK.entries)


def refusal(path, known=None, disk=DISK):
    with pytest.raises(BadCertificate) as error:
        load(path, disk, known)
    return str(error.value)


def pem_of(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def issued(key, issuer_key, *, subject="leaf", issuer="ca", extensions=(), ends=NOW + DAY):
    """A certificate of any shape."""
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (subject, issuer)]
    made = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(NOW - 40 * DAY).not_valid_after(ends)
    for one in extensions:
        made = made.add_extension(one, critical=False)
    return made.sign(issuer_key, hashes.SHA256())


def test_a_certificate_says_what_it_is(house, leaf):
    [found] = load(house.write("one.pem", chain_of(leaf), key_of(leaf)), DISK)
    own = parsed(leaf)
    assert found.names == ("www.example.com", "example.com", "192.0.2.1", "2001:db8::1")
    assert (found.not_before, found.not_after) == (
        own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp()
    )  # fmt: skip
    assert (found.key_type, found.fingerprint) == ("ECDSA", own.fingerprint(hashes.SHA256()).hex())
    assert (found.serial, found.issuer) == (f"{own.serial_number:x}", own.issuer.rfc4514_string())
    assert (found.sources, found.flaws) == ((str(house.folder / "one.pem"),), ())
    assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize("order", ["key first", "key last", "key between", "text between"])
def test_a_file_may_have_key_and_chain_in_any_order(house, order):
    ca = house.ca.create_child_ca()
    leaf = ca.issue_cert("example.com")
    own, intermediate = (one.bytes() for one in leaf.cert_chain_pems)
    key = key_of(leaf)
    parts = {
        "key first": (key, own, intermediate),
        "key last": (intermediate, own, key),
        "key between": (intermediate, key, own),
        "text between": (b"subject: somebody\n", own, b"\n# and\n", intermediate, key),
    }[order]
    [found] = load(house.write("one.pem", *parts), DISK)
    assert found.chain_pem == own + intermediate
    assert shake(serving_of(found)).fingerprint == found.fingerprint


@pytest.mark.parametrize("kind", [ECDSA, RSA])
@pytest.mark.parametrize(
    ("chain", "key"),
    [
        ("example.com.crt", "example.com.key"),
        ("example.com.pem", "example.com-key.pem"),
        ("example.com.pem", "example.com.key.pem"),
        ("example.com.pem", "example.com.pem.key"),
        ("fullchain.pem", "privkey.pem"),
        ("tls.crt", "tls.key"),
        ("server.cer", "server.key"),
    ],
)
def test_a_key_may_lie_beside_its_chain(house, kind, chain, key):
    leaf = house.leaf("example.com", key_type=kind)
    paths = house.write(f"tls/{chain}", chain_of(leaf), mode=0o644), house.write(f"tls/{key}", key_of(leaf))
    [found] = load(paths[0], DISK)
    assert (found.sources, found.key_pem.strip()) == (paths, key_of(leaf).strip())
    assert [one.fingerprint for one in load(str(house.folder / "tls"), DISK)] == [found.fingerprint]


def test_a_file_may_have_certificates_of_two_kinds_of_key(house):
    both = [house.leaf("example.com", key_type=kind) for kind in (RSA, ECDSA)]
    path = house.write("both.pem", *map(chain_of, both), *map(key_of, both))
    assert [one.key_type for one in load(path, DISK)] == ["RSA", "ECDSA"]


def certbot(house, *names):
    """The layout of certbot: `live/NAME` has symlinks to what lies in `archive/NAME`."""
    for name in names:
        leaf = house.leaf(name)
        for file, parts in {
            "privkey": [key_of(leaf)], "fullchain": [chain_of(leaf), house.pem],
            "cert": [chain_of(leaf)], "chain": [house.pem],
        }.items():  # fmt: skip
            house.write(f"archive/{name}/{file}1.pem", *parts)
            live = house.folder / "live" / name / f"{file}.pem"
            live.parent.mkdir(parents=True, exist_ok=True)
            live.symlink_to(f"../../archive/{name}/{file}1.pem")
    house.write("live/README", b"This directory contains your keys and certificates.\n")
    return str(house.folder / "live")


def test_certbot_s_live_folder_has_all_its_certificates(house):
    live = certbot(house, "b.example.com", "a.example.com")
    found = load(live, DISK)
    assert [one.names for one in found] == [("a.example.com",), ("b.example.com",)]
    assert found[0].sources == (f"{live}/a.example.com/fullchain.pem", f"{live}/a.example.com/privkey.pem")
    [one] = load(f"{live}/b.example.com", DISK)
    assert one == found[1]


def test_lego_s_folder_has_all_its_certificates_and_not_those_of_its_issuers(house):
    for name in ("example.org", "_.example.com"):
        leaf = house.leaf(name.replace("_", "*"))
        house.write(f"lego/{name}.crt", chain_of(leaf), house.pem)
        house.write(f"lego/{name}.key", key_of(leaf))
        house.write(f"lego/{name}.issuer.crt", house.pem)
        house.write(f"lego/{name}.json", b"{}")
        house.write(f"lego/{name}.pem", chain_of(leaf), house.pem, key_of(leaf))  # lego --pem
    found = load(str(house.folder / "lego"), DISK)
    assert sorted(one.names for one in found) == [("*.example.com",), ("example.org",)]


def test_a_folder_of_combined_files_has_them_in_the_order_of_their_names(house):
    for name in ("b", "a", "c"):
        leaf = house.leaf(f"{name}.example.com")
        house.write(f"haproxy/{name}.pem", chain_of(leaf), key_of(leaf))
    house.write("haproxy/.hidden.pem", b"-----BEGIN CERTIFICATE-----")
    house.write("haproxy/ca.pem", house.pem)
    house.write("haproxy/dhparam.pem", b"-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n")
    assert [one.label[0] for one in load(str(house.folder / "haproxy"), DISK)] == ["a", "b", "c"]


def test_a_secret_of_kubernetes_is_a_folder_of_links(house):
    leaf = house.leaf("example.com")
    for name, part in {"tls.crt": chain_of(leaf), "tls.key": key_of(leaf), "ca.crt": house.pem}.items():
        house.write(f"secret/..2026_11_27/{name}", part)
    (house.folder / "secret" / "..data").symlink_to("..2026_11_27")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (house.folder / "secret" / name).symlink_to(f"..data/{name}")
    [found] = load(str(house.folder / "secret"), DISK)
    assert found.names == ("example.com",)


# What is wrong.


def test_a_folder_without_a_certificate_is_refused(house):
    (house.folder / "empty").mkdir()
    text = "there is no certificate with its key in this folder (NAME.pem, NAME.crt, fullchain.pem)"
    assert refusal(str(house.folder / "empty")) == f"{house.folder}/empty: {text}"


def own_root(*names: str) -> tuple[bytes, bytes]:
    """What `openssl req -x509` makes of a key: a certificate that has signed itself and is a CA, and the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), NOW - DAY, NOW + 90 * DAY)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), pem


def test_a_certificate_that_has_signed_itself_and_names_a_host_is_served_from_a_folder(house):
    certificate, key = own_root("www.example.com")
    house.write("own/www.crt", certificate)
    house.write("own/www.key", key)
    house.write("own/ca.pem", house.pem)
    [found] = load(str(house.folder / "own"), DISK)
    assert found.names == ("www.example.com",)


def test_a_ca_with_its_key_beside_it_is_passed_over_where_others_are_served(house, leaf):
    certificate, key = own_root()
    house.write("mixed/ca.crt", certificate)
    house.write("mixed/ca.key", key)
    house.write("mixed/www.pem", chain_of(leaf), key_of(leaf))
    [found] = load(str(house.folder / "mixed"), DISK)
    assert found.sources == (str(house.folder / "mixed/www.pem"),)


def test_a_folder_of_cas_alone_is_refused_by_their_names(house):
    certificate, key = own_root()
    house.write("cas/self.crt", certificate)
    house.write("cas/self.key", key)
    assert refusal(str(house.folder / "cas")).endswith("fullchain.pem); passed over as a CA: self.crt")


def test_a_file_that_is_not_there_is_refused_by_its_name(house):
    assert refusal("/nowhere/at/all.pem") == "/nowhere/at/all.pem: no such file or directory"


def test_a_certificate_whose_key_is_nowhere_is_refused(house, leaf):
    path = house.write("alone/www.pem", chain_of(leaf))
    told = f"{path}: has no key, and there is none beside it (www.key, www-key.pem, privkey.pem)"
    assert refusal(path) == told
    assert refusal(str(house.folder / "alone")) == told


def test_a_key_of_another_certificate_is_refused(house, leaf):
    other = key_of(house.leaf("other.example.com"))
    path = house.write("one.pem", chain_of(leaf), other)
    assert refusal(path) == f"{path}: the key in it does not belong to its certificate"
    path = house.write("two.crt", chain_of(leaf), house.pem)
    key = house.write("two.key", other)
    assert refusal(path) == f"{path}: the key {key} does not belong to any of its certificates"


def test_an_encrypted_key_is_refused_and_nobody_is_asked(house, leaf):
    key = load_pem_private_key(key_of(leaf), None)
    text = "the key is encrypted, and nobody is asked for a passphrase: take it off with openssl pkey"
    for number, form in enumerate((PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)):
        pem = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"open sesame"))
        path = house.write(f"{number}.pem", chain_of(leaf), pem)
        assert refusal(path) == f"{path}: {text}"


def test_what_is_no_pem_is_refused(house, leaf):
    path = house.write("noise.pem", b"certainly\n")
    assert refusal(path) == f"{path}: has no certificate (PEM: -----BEGIN CERTIFICATE-----)"
    path = house.write("binary.pem", parsed(leaf).public_bytes(Encoding.DER))
    assert refusal(path) == f"{path}: has no certificate: it is DER, and should be PEM"
    path = house.write("cut.pem", chain_of(leaf)[:-40], key_of(leaf))
    assert refusal(path) == f"{path}: is cut off: a -----BEGIN has no -----END"


def test_garbage_between_the_marks_is_refused_with_its_number(house, leaf):
    garbage = b"-----BEGIN CERTIFICATE-----\nTm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
    path = house.write("one.pem", chain_of(leaf), garbage, key_of(leaf))
    assert refusal(path).startswith(f"{path}: certificate 2 cannot be read: ")
    garbage = b"-----BEGIN PRIVATE KEY-----\nTm8ga2V5\n-----END PRIVATE KEY-----\n"
    path = house.write("two.pem", chain_of(leaf), garbage)
    assert refusal(path).startswith(f"{path}: the key cannot be read: ")
    assert "\n" not in refusal(path)


def test_a_key_that_openssl_finds_too_short_is_refused(house):
    key = rsa.generate_private_key(65537, 1024)
    path = house.write("short.pem", issued(key, key).public_bytes(Encoding.PEM), pem_of(key))
    assert refusal(path) == f"{path}: OpenSSL takes no such certificate: ee key too small"


def test_a_key_that_everybody_can_read_is_refused_and_one_that_a_group_can_is_a_flaw(tmp_path, house, leaf):
    path = house.write("one.pem", chain_of(leaf), key_of(leaf))
    assert (
        refusal(path, disk=Told("others"))
        == f"{path}: everybody on this machine can read this private key; chmod o-r {path}"
    )
    [found] = load(path, Told("group"))
    assert [(one.kind, one.text) for one in found.flaws] == [
        (FlawKind.READABLE, f"{path}: the group of this private key's file can read it")
    ]


def test_who_can_read_a_file_is_found_through_its_links_and_the_folders_above(tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    file = folder / "key.pem"
    file.write_bytes(b"")
    link = tmp_path / "link.pem"
    link.symlink_to(file)
    open_above = all(Path(one).stat().st_mode & 0o001 for one in tmp_path.parents)
    for folder_mode, mode, expected in (
        (0o700, 0o644, ""), (0o755, 0o600, ""), (0o755, 0o640, "group"), (0o750, 0o644, "group"), (0o755, 0o644, "others"),
    ):  # fmt: skip
        folder.chmod(folder_mode)
        file.chmod(mode)
        for path in (file, link):
            found = DISK.readers(os.fspath(path))
            assert found == (expected if open_above else ""), (oct(folder_mode), oct(mode))


# What is served all the same.


def flaws(house, *parts):
    [found] = load(house.write("flawed.pem", *parts), DISK)
    return [(one.kind, one.text.removeprefix(f"{found.where}: ")) for one in found.flaws_at(NOW.timestamp())]


def test_what_is_in_no_chain_is_left_out_and_a_flaw(house, leaf):
    stranger = Authority(house.folder / "elsewhere", "stranger")
    [(kind, text)] = flaws(house, chain_of(leaf), stranger.pem, key_of(leaf))
    assert kind is FlawKind.CHAIN
    assert text.endswith(",O=stranger is no part of the chain, and is left out")


def test_a_missing_intermediate_is_a_flaw_where_a_public_ca_has_issued(house):
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    method = AuthorityInformationAccessOID.CA_ISSUERS
    where = x509.UniformResourceIdentifier("http://ca.test/ca.der")
    extensions = [
        x509.SubjectAlternativeName([x509.DNSName("example.com")]),
        x509.AuthorityInformationAccess([x509.AccessDescription(method, where)]),
    ]
    alone = issued(key, ca_key, extensions=extensions, ends=NOW + 60 * DAY)
    assert flaws(house, alone.public_bytes(Encoding.PEM), pem_of(key)) == [
        (FlawKind.CHAIN, "the intermediate certificate CN=ca is missing: many clients refuse such a chain")
    ]


def test_a_certificate_without_alternative_names_goes_by_its_common_name_and_is_a_flaw(house):
    key = ec.generate_private_key(ec.SECP256R1())
    own = issued(key, key, subject="Old.example.com", issuer="Old.example.com", ends=NOW + 60 * DAY)
    parts = own.public_bytes(Encoding.PEM), pem_of(key)
    assert flaws(house, *parts) == [(FlawKind.NO_NAMES, "names no host (no subjectAltName): clients refuse it")]
    [found] = load(house.write("flawed.pem", *parts), DISK)
    assert found.names == ("old.example.com",)


def test_the_first_of_a_chain_to_expire_says_when_it_does(house):
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = [x509.SubjectAlternativeName([x509.DNSName("example.com")])]
    own = issued(key, ca_key, extensions=names, ends=NOW + 60 * DAY)
    ca = issued(ca_key, ca_key, subject="ca", extensions=[x509.BasicConstraints(True, None)], ends=NOW - DAY)
    parts = own.public_bytes(Encoding.PEM), ca.public_bytes(Encoding.PEM), pem_of(key)
    [(kind, text)] = flaws(house, *parts)
    assert kind is FlawKind.EXPIRED
    assert text == f"a certificate of the chain has expired on {NOW - DAY:%Y-%m-%d}: clients refuse it"


def test_what_is_as_it_was_is_not_read_again_and_what_is_not_is(house, monkeypatch):
    tried = []
    monkeypatch.setattr(files, "try_out", lambda one: tried.append(one.label) or "")
    leaf = house.leaf("a.example.com")
    house.write("all/a.pem", chain_of(leaf))
    house.write("all/a.key", key_of(leaf))
    leaf = house.leaf("b.example.com")
    house.write("all/b.pem", chain_of(leaf), key_of(leaf))
    known, folder = Known(), str(house.folder / "all")
    first = load(folder, DISK, known)
    assert load(folder, DISK, known) == first
    assert tried == ["a.example.com", "b.example.com"]
    other = house.leaf("c.example.com")
    house.write("all/b.pem", chain_of(other), key_of(other))
    assert [one.label for one in load(folder, DISK, known)] == ["a.example.com", "c.example.com"]
    assert tried[2:] == ["c.example.com"]
    house.write("all/a.key", key_of(other))
    assert refusal(folder, known) == (f"{folder}/a.pem: the key {folder}/a.key does not belong to its certificate")
    (house.folder / "all" / "a.key").unlink()
    assert refusal(folder, known).startswith(f"{folder}/a.pem: has no key")


def test_a_key_that_can_be_read_by_others_from_now_on_is_looked_at_again(house):
    leaf = house.leaf("a.example.com")
    path, known = house.write("one.pem", chain_of(leaf), key_of(leaf)), Known()
    disk = Told("")
    load(path, disk, known)
    disk.who = "others"
    assert refusal(path, known, disk).startswith(f"{path}: everybody on this machine")


def test_a_folder_that_cannot_be_looked_into_is_refused(house):
    class Closed(Told):
        """A disk of somebody else's."""

        def entries(self, path):
            raise PermissionError(13, "Permission denied")

    assert refusal("/etc/letsencrypt/live", disk=Closed("")) == "/etc/letsencrypt/live: permission denied"


def test_who_has_no_certificates_pays_for_no_parser_of_them():
    script = (
        "import sys; from twisted_lb.config import LoadBalancerConfig; from twisted_lb.plan import plan_of;"
        "import twisted_lb.data_plane, twisted_lb.tls.peer;"
        "plan_of(LoadBalancerConfig(backends=['a:1'])); print('cryptography' in sys.modules)"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
