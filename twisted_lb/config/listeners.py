"""Listeners: where sockets listen."""

import ipaddress

from pydantic import Field, field_validator

from twisted_lb.config.base import Label, Model


class ListenConfig(Model):
    """The listener: where the balancer accepts its clients."""

    port: int = Field(
        default=80,
        ge=0,
        le=65535,
        description="TCP port. 0 lets the kernel choose, which the start line then names. "
        "Danger: below 1024 needs root or CAP_NET_BIND_SERVICE.",
    )
    interface: str = Field(
        default="",
        description="IP address to listen on; empty means all, `localhost` means 127.0.0.1. "
        "Danger: all interfaces is everybody who can reach this machine.",
    )

    @property
    def where(self) -> str:
        """The address as messages call it: `port 80`, `127.0.0.1:80`, `[::1]:80`."""
        if not self.interface:
            return f"port {self.port}"
        host = f"[{self.interface}]" if ":" in self.interface else self.interface
        return f"{host}:{self.port}"

    @field_validator("interface")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value in ("", "*"):
            return ""
        if value == "localhost":
            return "127.0.0.1"
        try:
            return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
        except ValueError:
            raise ValueError("should be an IP address, such as 127.0.0.1 or ::1") from None


class SiblingConfig(ListenConfig):
    """The configuration of the sibling backend, `twistd be`."""

    port: int = Field(default=8080, ge=0, le=65535, description="TCP port; 0: the kernel's choice.")
    name: Label | None = Field(
        default=None,
        description="What its answers call it; left out: `be-` and its port.",
    )
