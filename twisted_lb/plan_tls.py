"""The plan of TLS: certificates and policies of a listener, with what is in their files, which are read before anything changes."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from twisted_lb.config.base import KeyPath
from twisted_lb.config.files import digest_of
from twisted_lb.config.problems import Problem
from twisted_lb.config.tls import SELF_SIGNED, PoolTls, TlsConfig
from twisted_lb.errors import ConfigError
from twisted_lb.tls.certificate import Certificate, said
from twisted_lb.tls.contexts import try_out
from twisted_lb.tls.disk import Disk
from twisted_lb.tls.flaws import BadCertificate
from twisted_lb.tls.known import Known
from twisted_lb.tls.outgoing import OutgoingSettings
from twisted_lb.tls.settings import PolicySettings, TlsSettings


class Files(Disk, Protocol):
    """The files of a plan, each read once; and what was made of places of certificates."""

    @property
    def known(self) -> Known:
        """What was read before."""

    @property
    def certificates(self) -> dict[str, tuple[Certificate, ...] | BadCertificate]:
        """By place the certificates there, or what is wrong with it."""


def tls_of(
    config: TlsConfig, files: Files, place: KeyPath, own: Certificate | None, versions: tuple[str, ...] = ("http/1.1",)
) -> TlsSettings | None:
    """What a listener serves TLS with, None where it has no certificates, and offers these protocols (ALPN). `own` is the self-signed certificate of before, which is
    kept. ConfigError with what is wrong with its files, all of it.
    """
    if not config.certificates:
        return None
    problems: list[Problem] = []
    certificates: list[Certificate] = []
    for number, path in enumerate(config.certificates):
        found = _certificates(path, files, own)
        if isinstance(found, BadCertificate):
            problems.append(Problem((*place, "certificates", number), str(found)))
        else:
            certificates += found
    policies: dict[str | None, PolicySettings] = {}
    for host in config.patterns:
        try:
            policies[host] = replace(_policy(config, host, files, place), protocols=versions)
        except ConfigError as error:
            problems += [one for one in error.problems if one not in problems]
    problems = problems or list(_unfit(policies, certificates, place))
    if problems:
        raise ConfigError(problems)
    hosts = tuple((host, policies[host]) for host in config.hosts)
    return TlsSettings(tuple(dict.fromkeys(certificates)), policies[None], hosts, config.strict_sni)


def _unfit(
    policies: Mapping[str | None, PolicySettings], certificates: Iterable[Certificate], place: KeyPath
) -> Iterator[Problem]:
    """Certificates that are too weak for the level that ciphers of one's own ask for (`@SECLEVEL=3`)."""
    for host, policy in policies.items():
        if "@" in policy.ciphers:
            for one in certificates:
                refusal = try_out(one, policy.ciphers)
                if refusal:
                    home: KeyPath = place if host is None else (*place, "hosts", host)
                    yield Problem(
                        (*home, "ciphers"), f"with these OpenSSL takes no such certificate as {one.where}: {refusal}"
                    )


def own_certificate(listeners: Iterable[TlsSettings | None]) -> Certificate | None:
    """The self-signed certificate among those of listeners, if there is one: they share it."""
    every = (one for tls in listeners if tls is not None for one in tls.certificates)
    return next((one for one in every if one.where == SELF_SIGNED), None)


def _certificates(path: str, files: Files, own: Certificate | None) -> tuple[Certificate, ...] | BadCertificate:
    if path == SELF_SIGNED and path not in files.certificates:
        # Late: what parses certificates takes 9 MiB, for who has some.
        from twisted_lb.tls.self_signed import self_signed

        files.certificates[path] = (self_signed(time.time(), own),)
    return _loaded(path, files)


def _loaded(path: str, files: Files) -> tuple[Certificate, ...] | BadCertificate:
    from twisted_lb.tls.files import load  # late, as above

    if path not in files.certificates:
        try:
            files.certificates[path] = load(path, files, files.known)
        except BadCertificate as error:
            files.certificates[path] = error
    return files.certificates[path]


def _policy(tls: TlsConfig, host: str | None, files: Files, place: KeyPath) -> PolicySettings:
    """The policy of a host pattern, None: of all others; what is wrong is said where it stands."""
    from twisted_lb.tls.revocation import with_revocation  # late, as above

    config, name = tls.for_host(host), host or ""
    own: KeyPath = place if host is None else (*place, "hosts", host)
    said = tls.model_fields_set if host is None else tls.hosts[host].model_fields_set
    homes = {key: (*(own if key in said else place), key) for key in ("client_ca", "crl")}
    if config.client_certificate == "off":
        return PolicySettings(name, config.policy, config.ciphers or "")
    if config.client_ca is None:
        text = f'is needed: client_certificate = "{config.client_certificate}" has to know whose certificates count'
        raise ConfigError([Problem((*own, "client_ca"), text)])
    cas = _contents(config.client_ca, files, homes["client_ca"])
    crl = b"" if config.crl is None else _contents(config.crl, files, homes["crl"])
    try:
        authorities, revoked, stale_at = with_revocation(config.client_ca, cas, config.crl or "", crl)
    except BadCertificate as error:
        key = "crl" if str(error).startswith(f"{config.crl}:") else "client_ca"
        raise ConfigError([Problem(homes[key], str(error))]) from None
    return PolicySettings(
        name,
        config.policy,
        config.ciphers or "",
        config.client_certificate,
        authorities,
        revoked,
        config.crl or "",
        stale_at,
    )


def _contents(path: str, files: Files, place: KeyPath) -> bytes:
    try:
        return files.contents(path)
    except (OSError, ValueError) as error:
        # ValueError: a pipe.
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError([Problem(place, f"{path}: {reason}")]) from None


def said_of(tls: TlsSettings | None) -> Mapping[str, str | bytes]:
    """What is in the files of a listener's TLS as a plan compares it, and says how it differs, by what that is."""
    if tls is None:
        return {}
    found: dict[str, str | bytes] = {
        f"certificate {one.label} ({one.key_type})": _said(one) for one in tls.certificates
    }
    for place, policy in (("tls", tls.policy), *((f"tls.hosts.{host}", one) for host, one in tls.hosts)):
        found.update({f"{place}.{key}": data for key, data in _files_of(policy).items() if data})
    return found


def _files_of(policy: PolicySettings) -> dict[str, bytes]:
    return {"client_ca": policy.client_ca, "crl": policy.crl}


def _said(one: Certificate) -> str:
    """What tells a certificate, its chain and its key from others, in a few words."""
    return f"until {said(one.not_after)} ({digest_of(one.chain_pem + one.key_pem)[:8]})"


def outgoing_of(
    config: PoolTls, files: Files, place: KeyPath, offers: tuple[str, ...] = ("http/1.1",)
) -> OutgoingSettings:
    """How TLS is spoken to the backends of a pool, and which protocols are offered in it. ConfigError with what is wrong with its files."""
    from twisted_lb.tls.pem import in_pem, read_cas  # late, as above

    problems: list[Problem] = []
    authorities, certificate = b"", None
    if config.ca is not None:
        try:
            authorities = in_pem(read_cas(config.ca, _contents(config.ca, files, (*place, "ca"))))
        except BadCertificate as error:
            problems.append(Problem((*place, "ca"), str(error)))
        except ConfigError as error:
            problems += error.problems
    if config.certificate is not None:
        found = _loaded(config.certificate, files)
        if isinstance(found, BadCertificate):
            problems.append(Problem((*place, "certificate"), str(found)))
        else:
            certificate = found[0]
    if problems:
        raise ConfigError(problems)
    return OutgoingSettings(config.verify, authorities, config.server_name or "", certificate, offers)


def outgoing_said(tls: OutgoingSettings | None) -> Mapping[str, str | bytes]:
    """What is in the files of a pool's TLS, as above."""
    if tls is None:
        return {}
    found: dict[str, str | bytes] = {"tls.ca": tls.ca} if tls.ca else {}
    return found if tls.certificate is None else {**found, "tls.certificate": _said(tls.certificate)}
