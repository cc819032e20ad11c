# A load balancer as a background service, with three backends beside it to try it out:
#
#     twistd -y lb.tac          in the background: twistd.pid, twistd.log; `kill $(cat twistd.pid)` ends it
#     twistd -n -y lb.tac       in the foreground
#     curl http://127.0.0.1:8080/
#
# Copy it and edit it. For your own backends, change BACKENDS and delete the loop at the end.

from twisted.application.service import Application

from twisted_lb.backend_tap import backend
from twisted_lb.service import OrderedServices
from twisted_lb.tap import load_balancer

BACKENDS = ["127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"]

application = Application("twisted_lb")

# The balancer stops first, and its running requests still find their backends.
services = OrderedServices()
services.setServiceParent(application)

# The words are those of `twistd lb`; `twistd lb --help` explains them.
load_balancer("--backend", *BACKENDS, "--interface", "127.0.0.1", "--port", "8080").setServiceParent(services)

for address in BACKENDS:
    port = address.rpartition(":")[2]
    backend("--port", port, "--interface", "127.0.0.1").setServiceParent(services)
