"""A simulator: what the balancer decides, on virtual time, against modelled servers. Nothing waits, and nothing listens on a port.

`Farm` asks a question of queueing: a policy over servers with queues, where nothing fails. `World` has a configuration, made by the code
that makes it in production, in front of servers that are slow, fail and die. Both run to a `Run`; `replicate` has several, with
intervals. The streams of arrivals, service and picks are separate, each named by its object: the same seed brings the same
requests to whatever policy.

Equal bytes are promised for one platform: the last bit of a logarithm is its library's.
"""

from twisted_lb.sim import theory
from twisted_lb.sim.farm import Farm
from twisted_lb.sim.laws import Empirical, Exponential, Fixed, Lognormal, Pareto, Poisson, Steps, Trace
from twisted_lb.sim.machines import Network
from twisted_lb.sim.observe import Run, Unstable
from twisted_lb.sim.prompts import PromptFarm, Prompts
from twisted_lb.sim.servers import Batches, Delay, Sharing, Workers
from twisted_lb.sim.stats import Estimate, Replications, replicate
from twisted_lb.sim.visits import Visit
from twisted_lb.sim.world import World

__all__ = [
    "Batches",
    "Delay",
    "Empirical",
    "Estimate",
    "Exponential",
    "Farm",
    "Fixed",
    "Lognormal",
    "Network",
    "Pareto",
    "Poisson",
    "PromptFarm",
    "Prompts",
    "Replications",
    "Run",
    "Sharing",
    "Steps",
    "Trace",
    "Unstable",
    "Visit",
    "Workers",
    "World",
    "replicate",
    "theory",
]
