"""What twistd offers with this package: `twistd lb` and `twistd be`. Every call of twistd imports this file."""

from twisted.application.service import ServiceMaker

lb = ServiceMaker("twisted_lb", "twisted_lb.tap", "A load balancer for HTTP/1.1", "lb")
be = ServiceMaker("twisted_lb backend", "twisted_lb.sibling.tap", "A small backend to try the load balancer with", "be")
