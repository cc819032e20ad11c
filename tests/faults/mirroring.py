"""A mirror in a town: a second pool gets the requests of the first one too, in the same bad network, and nobody is to notice."""

import random
from collections.abc import Callable

from faults.servers import Server

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.mirror import MirrorConfig
from twisted_lb.config.objects import objects_of
from twisted_lb.config.pools import PoolConfig
from twisted_lb.core.mirroring import Mirroring as Counts
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.cluster import Cluster
from twisted_lb.plan import DEFAULT
from twisted_lb.testing import MemoryNetwork

POOL = "mirror"
ADDRESSES = ("10.9.0.1:80", "10.9.0.2:80")


class Mirroring:
    """The mirror of a town, which one in four has; `cluster` is its pool at work. It may go and come with other configurations."""

    def __init__(self, seed: int, *, wanted: bool) -> None:
        rng = self._rng = random.Random(f"{seed}/mirror")
        self.on = rng.random() < 0.25 and wanted
        self.servers: list[Server] = []
        self.clusters: dict[Cluster, None] = {}  # an ordered set: those that there were
        self.counts = Counts()  # of the pool that is mirrored
        self._mirror = MirrorConfig(
            to=POOL,
            percent=rng.choice([100, 100, 50]),
            most=rng.choice([1, 4, 100]),
            body_bytes=rng.choice([0, 1000, 65536]),
            timeout_s=rng.choice([1.0, 10.0, 100.0]),
            methods=("*",) if rng.random() < 0.7 else ("GET", "HEAD"),
        )
        self._flaps = rng.random() < 0.3  # with each other configuration
        self._pool = PoolConfig.model_validate(
            {
                "backends": rng.sample(ADDRESSES, rng.choice([1, 2])),
                "max_in_flight": rng.choice([0, 0, 1]),
                "health_check": {"interval_s": 0.0},
                "upstream": {"max_idle": rng.choice([0, 1, 8])},
            }
        )

    def begin(self, network: MemoryNetwork, seed: int, note: Callable[[str, str], None]) -> None:
        """Let its servers stand there, if there is a mirror."""

        def server(address: str) -> Server:
            return Server(network, address, random.Random(f"{seed}/{address}"), lambda text: note(address, text))

        self.servers = [server(str(spec.address)) for spec in self._pool.backends] if self.on else []

    def over(self, config: LoadBalancerConfig) -> LoadBalancerConfig:
        """These settings, with the mirror of their pool `default`, whose keys are flat."""
        if not self.on or (self._flaps and self._rng.random() < 0.5):
            return config
        default = objects_of(config).pools[DEFAULT].model_copy(update={"mirror": self._mirror})
        pools = {**config.pools, DEFAULT: default, POOL: self._pool}
        return config.model_copy(update={"pools": pools, "backends": ()})

    def follow(self, clusters: dict[str, Cluster]) -> None:
        """The balancer goes by another configuration."""
        self.counts = clusters[DEFAULT].pool.totals.mirroring
        if POOL in clusters:
            self.clusters[clusters[POOL]] = None

    def calm(self) -> None:
        """Its servers behave."""
        for server in self.servers:
            server.calm = True
            server.thaw()

    @property
    def running(self) -> int:
        """How many mirrored requests are there now."""
        return sum(one.pool.leases + len(one.mirrors) for one in self.clusters)

    @property
    def sent(self) -> int:
        """How many were sent."""
        return self.counts.sent

    @property
    def unsent(self) -> int:
        """How many were to be, and were not."""
        return sum(self.counts.unsent)

    @property
    def failed(self) -> int:
        """How many that were sent did not end well."""
        totals = [one.pool.totals.gone_outcomes for one in self.clusters]
        return sum(sum(outcomes) - outcomes[Outcome.OK] for outcomes in totals)

    @property
    def open(self) -> int:
        """How many connections are."""
        return sum(one.open for one in self.clusters)
