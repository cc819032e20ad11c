# A load balancer as a background service, with three backends beside it to try it out:
#
#     twistd -y lb.tac          in the background: twistd.pid, twistd.log; `kill $(cat twistd.pid)` ends it
#     twistd -n -y lb.tac       in the foreground
#     curl http://127.0.0.1:8080/
#
# For backends of your own copy examples/service.tac, which has nothing of the demonstration.

from twisted.application.service import Application

from twisted_lb.backend_tap import backend
from twisted_lb.service import OrderedServices
from twisted_lb.tap import load_balancer

PORTS = ["8081", "8082", "8083"]

application = Application("twisted_lb")

# The balancer stops first, and its running requests still find their backends.
services = OrderedServices()
services.setServiceParent(application)

# The words are those of `twistd lb`; `twistd lb --help` explains them.
addresses = [f"127.0.0.1:{port}" for port in PORTS]
load_balancer(
    "--backend", *addresses, "--interface", "127.0.0.1", "--port", "8080",
    # "--admin=127.0.0.1:8090",  # the dashboard
).setServiceParent(services)

for port in PORTS:
    backend("--port", port, "--interface", "127.0.0.1").setServiceParent(services)
