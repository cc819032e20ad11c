"""Configuration: every option of the balancer, its default, its bounds, and what it may break.

This is the only place of defaults. Build a `LoadBalancerConfig` yourself, or let `config.load` read it from TOML or the
command line; `config.reference` renders the models as documentation and `LoadBalancerConfig.model_json_schema()` serves
editors.
"""

from twisted_lb.config.balancer import LoadBalancerConfig
from twisted_lb.config.base import Model
from twisted_lb.config.health_check import HealthCheckConfig
from twisted_lb.config.inheritance import DefaultsConfig
from twisted_lb.config.limits import LimitsConfig, TimeoutsConfig
from twisted_lb.config.listeners import ListenConfig, ListenerConfig, SiblingConfig
from twisted_lb.config.observe import LogConfig
from twisted_lb.config.pools import BackendTable, PoolConfig, RetryConfig, UpstreamConfig
from twisted_lb.config.routes import ForwardingConfig, RouteConfig

__all__ = [
    "BackendTable",
    "DefaultsConfig",
    "ForwardingConfig",
    "HealthCheckConfig",
    "LimitsConfig",
    "ListenConfig",
    "ListenerConfig",
    "LoadBalancerConfig",
    "LogConfig",
    "Model",
    "PoolConfig",
    "RetryConfig",
    "RouteConfig",
    "SiblingConfig",
    "TimeoutsConfig",
    "UpstreamConfig",
]
