"""The sibling backend's command line, under the name that `.tac` files import it by: see `twisted_lb.sibling.tap`."""

from twisted_lb.sibling.tap import Options, backend, makeService

__all__ = ["Options", "backend", "makeService"]
