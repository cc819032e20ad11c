from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.web.resource import Resource
from twisted.web.server import Site

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.net.resource import BalancedReverseProxyResource
from twisted_lb.service import LoadBalancerService

balancer = LoadBalancerService(LoadBalancerConfig(backends=["127.0.0.1:8081", "127.0.0.1:8082"]), listening=False)
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)

root = Resource()
root.putChild(b"api", BalancedReverseProxyResource(balancer.engine))  # /api/users?x=1 asks a backend for /users?x=1
serverFromString(reactor, "tcp:8000:interface=127.0.0.1").listen(Site(root))
reactor.run()
