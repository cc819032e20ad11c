"""A balancer in memory whose pool speaks HTTP/2 with its backends."""

from typing import Any

from house import House
from http2_backend import Http2Backend

from twisted_lb.config import LoadBalancerConfig


class Http2House(House):
    """A house with such a pool; options are those of the pool, `listener` those of the listener, `shadow` another pool, and `more` other tables."""

    def __init__(
        self,
        *names: Any,
        seed: int = 2,
        listener: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
        shadow: dict[str, Any] | None = None,
        **pool: Any,
    ) -> None:
        self._listener = {"address": "127.0.0.1:1", "limits": {"client_bytes_per_s": 0}, **(listener or {})}
        self._more = more or {}
        self._others = {} if shadow is None else {"shadow": shadow}
        self._pool: dict[str, Any] = {
            "backends": list(names or ("a:80",)),
            "protocol": "h2",
            "health_check": {"interval_s": 0.0},
            "queue": {"no_backend_s": 0.0},
            **pool,
        }
        super().__init__(*names, seed=seed)

    def config(self, **options: Any) -> LoadBalancerConfig:
        """See House: options of the pool."""
        self._pool = {**self._pool, **options}
        return LoadBalancerConfig.model_validate(
            {"pools": {"default": self._pool, **self._others}, "listeners": {"default": self._listener}, **self._more}
        )

    def http2(self, address: str = "a:80", *words: Any, **named: Any) -> Http2Backend:
        """A backend that speaks HTTP/2."""
        return Http2Backend(self.network, address, *words, **named)

    @property
    def outcomes(self) -> list[str]:
        """Of all attempts at the request that ended last."""
        return [attempt.outcome.name for attempt in self.record.attempts]
