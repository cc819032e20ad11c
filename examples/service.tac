# A load balancer as a background service. Copy it, and change the words: they are those of `twistd lb`.
#
#     twistd -y service.tac       in the background: twistd.pid, twistd.log; `kill $(cat twistd.pid)` ends it
#     twistd -n -y service.tac    in the foreground
#
# docs/operations.md says more: pid files, logs, systemd, containers.

from twisted.application.service import Application

from twisted_lb.tap import load_balancer

application = Application("twisted_lb")

balancer = load_balancer(
    *("--backend", "127.0.0.1:8081", "127.0.0.1:8082,weight=2"),
    *("--healthcheck", "2"),
    *("--interface", "127.0.0.1"),
    *("--port", "8080"),
)
balancer.setServiceParent(application)
