"""TLS: the certificates of a listener, what clients must be able to do there, and whose certificates they may be asked for."""

import ssl
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from twisted_lb.config.base import SEVERAL, Model, TextOrTable
from twisted_lb.config.routes import Host
from twisted_lb.config.secret import Sources

# A certificate that nobody has signed but the balancer, made in memory.
SELF_SIGNED: Final = "self-signed"
# No certificates: plain HTTP.
OFF: Final = "off"
WORDS: Final = (SELF_SIGNED, OFF)


def _is_a_path(text: str, info: ValidationInfo) -> str:
    """A file or folder; a relative one is in the folder of the configuration file, as files with secrets are."""
    if not text or "\0" in text:
        raise ValueError("should be the path of a file")
    sources = info.context if isinstance(info.context, Sources) else Sources()
    return str(sources.folder / Path(text))


def _is_a_certificate(text: str, info: ValidationInfo) -> str:
    return text if text in WORDS else _is_a_path(text, info)


# A file that is named by a path; a relative one is in the folder of the configuration.
FilePath = Annotated[str, AfterValidator(_is_a_path)]


def _is_a_server_name(text: str) -> str:
    if text.startswith(("*.", "[")):
        raise ValueError("should be the name of one host, such as api.example.com")
    return text


# What is asked for by SNI.
ServerName = Annotated[Host, AfterValidator(_is_a_server_name)]


class TlsPolicyConfig(Model):
    """A TLS policy: what a client must be able to do, and whose certificate it may be asked for (mTLS)."""

    policy: Literal["modern", "intermediate"] = Field(
        default="intermediate",
        description="The preset, as Mozilla has it: `intermediate`: TLS 1.2 and 1.3 with forward secrecy and AEAD ciphers alone; "
        "`modern`: TLS 1.3 alone. Danger: `modern` keeps clients out that are older than some years.",
    )
    ciphers: str | None = Field(
        default=None,
        description="Ciphers of TLS 1.2 in place of the preset's, as OpenSSL writes them (`ECDHE+AESGCM`); those of TLS 1.3 are "
        "OpenSSL's own. Left out: the preset's. Danger: whatever is weak here is in use.",
    )
    client_certificate: Literal["off", "request", "require"] = Field(
        default="off",
        description="Whether clients are asked for a certificate (mTLS): `request`: one may be shown, and a wrong one ends the "
        "handshake; `require`: nobody gets in without. Danger: whoever has a certificate of `client_ca` gets in.",
    )
    client_ca: FilePath | None = Field(
        default=None,
        description="File (PEM) with the CAs whose certificates clients may show; needed where they are asked for one.",
    )
    crl: FilePath | None = Field(
        default=None,
        description="File (PEM or DER) with the revocation lists of these CAs: whose certificate is in one does not get in. "
        "Danger: a list past its next update keeps everybody out.",
    )

    @field_validator("ciphers")
    @classmethod
    def _select_something(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(value)
            except (ssl.SSLError, ValueError):
                # ValueError: a NUL in the text.
                raise ValueError("selects no cipher that OpenSSL here has, such as ECDHE+AESGCM does") from None
        return value


class TlsConfig(TextOrTable, TlsPolicyConfig):
    """TLS of a listener: its certificates, and what holds for the names that they are for. A text is `certificates` alone."""

    _key: ClassVar[str] = "certificates"

    certificates: Annotated[tuple[str, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Where certificates and keys are, one or a list: a file (PEM: chain and key, or the key beside it), a folder "
        "(certbot's, lego's, or files with both), or `self-signed`: one that the balancer makes itself, for `localhost` and this "
        "machine's name. The first one is for whoever names no host that another one is for. Relative paths are in the folder of "
        "the configuration file. Left out, or `off`: the listener speaks plain HTTP.",
    )
    strict_sni: bool = Field(
        default=False,
        description="Refuse the handshake of who names no host (SNI), or one that no certificate is for, in place of showing the first "
        "certificate. Danger: clients that connect by an address name no host.",
    )
    hosts: dict[Host, TlsPolicyConfig] = Field(
        default={},
        description="What holds for some hosts in its place (`admin.example.com`, or `*.example.com` for all below): what is not said "
        "there is as for the others. Requests for them on a connection that was made for another name are refused with 421.",
    )

    @field_validator("certificates")
    @classmethod
    def _are_places(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value == (OFF,):
            return ()
        if OFF in value:
            raise ValueError(f'"{OFF}" should stand alone: there are certificates beside it')
        return tuple(dict.fromkeys(_is_a_certificate(one, info) for one in value))

    def for_host(self, host: str | None) -> TlsPolicyConfig:
        """What holds for a host pattern: what is said there, and else what is said for all."""
        own = self.hosts[host] if host is not None else self
        said = {key: getattr(own if key in own.model_fields_set else self, key) for key in TlsPolicyConfig.model_fields}
        return TlsPolicyConfig.model_validate(said)

    @property
    def patterns(self) -> tuple[str | None, ...]:
        """The host patterns that have a policy of their own, behind None, which stands for all others."""
        return (None, *self.hosts)


class PoolTls(Model):
    """TLS to the backends of a pool: their certificates are verified, for their names, before a byte of a request is sent."""

    verify: bool = Field(
        default=True,
        description="Whether a backend must show a certificate of `ca` for its name. Danger: false trusts whoever answers; it is warned "
        "of at each start.",
    )
    ca: FilePath | None = Field(
        default=None,
        description="File (PEM) with the CAs that are believed; left out: those of the system.",
    )
    server_name: ServerName | None = Field(
        default=None,
        description="The name that backends are asked for (SNI), and that their certificates must be for; left out: the host that a "
        "route sends requests on with (`forwarding.host`), where it names one, and else the host of the backend as it is configured; "
        "an address is verified as such, and not asked for.",
    )
    certificate: FilePath | None = Field(
        default=None,
        description="File (PEM) with a certificate and its key that are shown to backends that ask for one (mTLS).",
    )


def weak_ciphers(text: str) -> list[str]:
    """The ciphers among those that a text selects which are worth nothing: no encryption or authentication, or less than 128 bits."""
    if not text:
        return []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(text)
    # OpenSSL counts 112 bits for 3DES, and none for what does not encrypt.
    return [one["name"] for one in context.get_ciphers() if one["strength_bits"] < 128 or one["auth"] == "auth-null"]
