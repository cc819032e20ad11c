"""The life of a load balancer in a Twisted program: bind, start, change, stop."""

from twisted_lb.service.balancer import LoadBalancerService
from twisted_lb.service.ordered import OrderedServices

__all__ = ["LoadBalancerService", "OrderedServices"]
