"""Builds twisted_lb: compiled with mypyc where that is possible, pure where it is not, from the same files.

TWISTED_LB_PURE=1 skips the compiler. TWISTED_LB_COMPILED=require makes any failure of mypy or the compiler a failure of
the build; otherwise it is a warning, and the pure files serve.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent

# The hot modules. What has a Twisted class among its bases must never be here: mypyc accepts it, memory is corrupted later.
COMPILED = sorted(
    [
        *(str(path.relative_to(HERE)) for path in (HERE / "twisted_lb" / "core").rglob("*.py")),
        *(str(path.relative_to(HERE)) for path in (HERE / "twisted_lb" / "wire").rglob("*.py")),
        *(
            f"twisted_lb/net/{name}.py"
            for name in (
                "alarm",
                "local_reply",
                "client_connection",
                "client_side",
                "clock",
                "cluster",
                "deadlines",
                "dialer",
                "exchange",
                "foreign",
                "frontend",
                "http1",
                "interfaces",
                "listener",
                "outgoing",
                "poller",
                "reactor_poller",
                "relay",
                "replay",
                "route",
                "runtime",
                "settings",
                "transport",
                "upstream",
            )
        ),
    ]
)
COMPILED = [name for name in COMPILED if not name.endswith("__init__.py")]

REQUIRED = os.environ.get("TWISTED_LB_COMPILED") == "require"


def warn(reason: object) -> None:
    """One line: what was not done, and what that means."""
    print(f"warning: twisted_lb is built pure, and slower: {reason}", file=sys.stderr)


def extensions() -> list[Extension]:
    """The compiled modules, or none."""
    if os.environ.get("TWISTED_LB_PURE") == "1":
        return []
    os.chdir(HERE)
    try:
        from mypyc.build import mypycify

        made = mypycify(["--config-file=pyproject.toml", *COMPILED], opt_level="3", debug_level="0")
    except (Exception, SystemExit) as error:
        if REQUIRED:
            raise
        warn(f"mypyc failed ({type(error).__name__}: {error})")
        return []
    for extension in made:
        extension.optional = not REQUIRED
    return made


class BuildOrNot(build_ext):
    """One module that does not compile leaves none behind: half a compiled package is not a build."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            if REQUIRED:
                raise
            warn(error)
        built = [extension for extension in self.extensions if Path(self.get_ext_fullpath(extension.name)).exists()]
        if len(built) != len(self.extensions):
            for extension in built:
                Path(self.get_ext_fullpath(extension.name)).unlink()
            self.extensions = []
            warn("the compiler failed")

    def copy_extensions_to_source(self) -> None:
        if self.extensions:
            super().copy_extensions_to_source()


setup(
    name="twisted-lb",
    version="0.1.0",
    description="A load balancer for HTTP/1.1 that runs as a Twisted daemon, and whose decisions are a class",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # Keeps an editable install a plain .pth file: with an import hook, Twisted does not find the plugin.
    package_dir={"": "."},
    packages=[*find_packages(include=["twisted_lb", "twisted_lb.*"]), "twisted.plugins"],
    package_data={"twisted_lb": ["py.typed"]},
    install_requires=["Twisted>=26.10", "mypy-extensions>=1", "pydantic>=2.12,<3", "zope.interface>=8"],
    extras_require={
        # What scripts/bench installs into an environment of its own, beside two contenders.
        "bench": ["matplotlib>=3.10", "pytest-benchmark>=5.1"],
        "dev": [
            "coverage>=7.13",
            "gunicorn>=27",
            "h11>=0.16",
            "httptools>=0.7",
            "httpx>=0.28",
            "hypothesis>=6.150",
            "mypy>=2.4,<2.5",
            "mypy-zope>=1.0.17",
            "pytest>=9",
            "pytest-xdist>=3.8",
            "pytest-twisted>=1.14.3",
            "requests>=2.32",
            "ruff>=0.17,<0.18",
            "types-setuptools",
            "uvicorn>=0.35",
            "websockets>=15",
        ],
    },
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildOrNot},
    zip_safe=False,
    classifiers=[
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: Proxy Servers",
        "Typing :: Typed",
    ],
)
