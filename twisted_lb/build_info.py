"""The build: which of the two builds of the one source runs, compiled or pure."""

from twisted_lb.core import pool


def build() -> str:
    """`compiled` when the hot modules are mypyc's, `pure` when they are the files themselves."""
    return "pure" if pool.__file__.endswith(".py") else "compiled"
