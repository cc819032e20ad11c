"""A load balancer that runs as a Twisted daemon, and whose decisions are a class that needs no reactor."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted_lb.facade import Assignment, LoadBalancer, NoServerAvailable

__version__ = "0.1.0"

__all__ = ["Assignment", "LoadBalancer", "NoServerAvailable", "__version__"]


def __getattr__(name: str) -> Any:
    """The class and its companions, when somebody asks: `lbctl` starts without the core."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from twisted_lb import facade

    return getattr(facade, name)
