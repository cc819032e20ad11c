"""A load balancer that runs as a Twisted daemon, and whose decisions are a class that needs no reactor."""

from twisted_lb.facade import Assignment, LoadBalancer, NoServerAvailable

__version__ = "0.1.0"

__all__ = ["Assignment", "LoadBalancer", "NoServerAvailable", "__version__"]
