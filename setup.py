"""Builds twisted_lb: compiled with mypyc where that is possible, pure where it is not, from the same files.

TWISTED_LB_PURE=1 skips the compiler. TWISTED_LB_COMPILED=require makes any failure of mypy or the compiler a failure of
the build; otherwise it is a warning, and the pure files serve. Its last line says what it became, and so does the name of a
wheel: `py3-none-any` is pure.
"""

import os
import re
import sys
from pathlib import Path
from typing import ClassVar

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent

# The hot modules. What has a Twisted class among its bases must never be here: mypyc accepts it, memory is corrupted later.
COMPILED = sorted(
    [
        *(str(path.relative_to(HERE)) for path in (HERE / "twisted_lb" / "core").rglob("*.py")),
        *(str(path.relative_to(HERE)) for path in (HERE / "twisted_lb" / "wire").rglob("*.py")),
        "twisted_lb/log_files.py",
        "twisted_lb/sim/kernel.py",
        *(
            f"twisted_lb/access_log/{name}.py"
            for name in (
                "around",
                "combined",
                "destinations",
                "digits",
                "escapes",
                "haproxy",
                "heads",
                "json_lines",
                "log",
                "moments",
                "privacy",
                "templates",
                "termination",
                "writer",
            )
        ),
        *(
            f"twisted_lb/net/{name}.py"
            for name in (
                "admission",
                "affinity",
                "alarm",
                "challenges",
                "arrival",
                "local_reply",
                "client_connection",
                "client_side",
                "clock",
                "cluster",
                "deadlines",
                "dialer",
                "exchange",
                "foreign",
                "frame_writer",
                "frontend",
                "greeting",
                "handshakes",
                "hedge",
                "http1",
                "http1_upstream",
                "http2",
                "http2_connections",
                "http2_stream",
                "http2_tunnel",
                "http2_upstream",
                "interfaces",
                "kept",
                "moving",
                "listener",
                "outgoing",
                "own_answers",
                "path_edit",
                "peeking",
                "pipes",
                "poller",
                "protocols",
                "proxied",
                "reactor_poller",
                "reception",
                "relay",
                "replay",
                "request_cost",
                "abandoned",
                "mirror",
                "queueing",
                "request_keys",
                "route",
                "routing",
                "runtime",
                "secured",
                "session",
                "session_table",
                "settings",
                "tcp_keepalive",
                "tls",
                "transport",
                "upstream",
                "waits",
            )
        ),
    ]
)
COMPILED = [name for name in COMPILED if not name.endswith("__init__.py")]

# Compiled modules call each other directly. By default each call goes through a table, where another library could put a function of its
# own in the place of ours, and so does what is called from the same file.
AMONG_THEMSELVES = ("-fvisibility=hidden", "-fno-plt")

REQUIRED = os.environ.get("TWISTED_LB_COMPILED") == "require"
PURE = os.environ.get("TWISTED_LB_PURE") == "1"


def extensions() -> list[Extension]:
    """The compiled modules, as C."""
    os.chdir(HERE)
    from mypyc.build import mypycify

    print(f"twisted_lb: mypyc translates {len(COMPILED)} modules")
    # Silent: of modules that are not compiled, which need more than there is in a build's environment, only the types are wanted.
    options = ["--config-file=pyproject.toml", "--follow-imports=silent"]
    made = mypycify([*options, *COMPILED], opt_level="3", debug_level="0")
    for extension in made:
        extension.optional = not REQUIRED
        if os.name == "posix":
            extension.extra_compile_args = [*extension.extra_compile_args, *AMONG_THEMSELVES]
    for source in {source for extension in made for source in extension.sources}:
        keep_out_of_the_trashcan(Path(source))
    return made


def keep_out_of_the_trashcan(source: Path) -> None:
    """Take CPython's trashcan out of the deallocators of acyclic classes.

    It puts off what is nested deeply, and chains it by the garbage collector's header, which these have not: what lies before
    them in memory is overwritten. mypyc has it in every deallocator. No acyclic class is nested in itself without a bound.
    """
    text = source.read_text(encoding="utf-8")
    # From a deallocator's head to the end of its trashcan: mypyc names it in both.
    whole = r"(?m)^ *(\w+)_dealloc\(\w+ \*self\)\n(?:.*\n)*? *CPy_TRASHCAN_BEGIN\(self, \1_dealloc\)\n(?:.*\n)*? *CPy_TRASHCAN_END\(self\)\n"

    def mended(found: re.Match[str]) -> str:
        code = found[0]
        return code if "PyObject_GC_UnTrack(self);" in code else re.sub(r"(?m)^ *CPy_TRASHCAN_.*\n", "", code)

    source.write_text(re.sub(whole, mended, text), encoding="utf-8")


class BuildOrNot(build_ext):
    """Compiles all modules or none: half a compiled package is not a build.

    mypyc runs here and not when setup.py is read: that happens for each question about the package's metadata too.
    """

    reason = "TWISTED_LB_PURE=1"
    made: ClassVar[list[Extension] | None] = (
        None  # a wheel builds and installs: it comes here twice, and the second time all is up to date
    )

    def run(self) -> None:
        try:
            if self.__class__.made is None:
                self.__class__.made = extensions()
            self.distribution.ext_modules = self.made
            self.swig_opts = None  # a text the first time, and then a list
            self.finalize_options()
            super().run()
        except (Exception, SystemExit) as error:  # mypyc exits when mypy finds something
            if REQUIRED:
                raise
            self.none(f"{type(error).__name__}: {error}")
        else:
            if not all(map(os.path.exists, self.outputs())):
                self.none("the compiler failed")

    def outputs(self) -> list[str]:
        return [self.get_ext_fullpath(extension.name) for extension in self.extensions]

    def none(self, reason: str) -> None:
        """Leave no compiled module behind; the distribution is pure from now on."""
        for built in filter(os.path.exists, self.outputs()):
            os.unlink(built)
        self.extensions = self.distribution.ext_modules = []
        self.__class__.reason = reason

    def copy_extensions_to_source(self) -> None:
        if self.extensions:
            super().copy_extensions_to_source()


class TrulyTagged(bdist_wheel):
    """A wheel that is called pure when it is, also where the compiler was to make another one of it."""

    def run(self) -> None:
        self.run_command("build")
        self.root_is_pure = not self.distribution.has_ext_modules()
        super().run()


def readme() -> str:
    """The README for an index, where links to files lead nowhere: only their words, and no pictures."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^]]*\]\((?!https?:)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]*\)", r"\1", text)


distribution = setup(
    name="twisted-lb",
    version="0.1.0",
    description="A load balancer for HTTP/1.1 and HTTP/2, also over TLS, and for TCP, that runs as a Twisted daemon, and whose decisions are a class",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # Keeps an editable install a plain .pth file: with an import hook, Twisted does not find the plugin.
    package_dir={"": "."},
    packages=[*find_packages(include=["twisted_lb", "twisted_lb.*"]), "twisted.plugins"],
    package_data={"twisted_lb": ["py.typed", "config/lb.schema.json", "admin/page/*"]},
    install_requires=[
        "Twisted>=26.10",
        "cryptography>=50,<51",
        "mypy-extensions>=1",
        "prometheus-client>=0.26",
        "pydantic>=2.12,<3",
        "zope.interface>=8",
    ],
    extras_require={
        # What scripts/bench installs into an environment of its own, beside two contenders.
        "bench": ["matplotlib>=3.10", "pytest-benchmark>=5.1"],
        "dev": [
            # Of no other platform it has wheels, and from source it needs a Clang of its own.
            "atheris>=3; platform_system == 'Linux' and platform_machine == 'x86_64'",
            "axe-playwright-python>=0.1.8",
            "coverage>=7.13",
            "grpcio>=1.76",
            "grpcio-reflection>=1.76",
            "gunicorn>=27",
            "h11>=0.16",
            "h2>=4.4",
            "hpack>=4.2",
            "httptools>=0.7",
            "httpx>=0.28",
            "hyperframe>=6.1",
            "hypothesis>=6.150",
            "mypy>=2.4,<2.5",
            "mypy-zope>=1.0.17",
            "opentelemetry-proto>=1.40",
            "playwright>=1.55",
            "pytest>=9",
            "pytest-xdist>=3.8",
            "pytest-twisted>=1.14.3",
            "requests>=2.32",
            "ruff>=0.17,<0.18",
            "schemathesis>=4.32",
            "taplo>=0.9",
            "trustme>=1.2",
            "types-setuptools",
            "uvicorn>=0.35",
            "websockets>=15",
        ],
    },
    entry_points={"console_scripts": ["lbctl = twisted_lb.ctl.main:main"]},
    # What a wheel has for those without a checkout: the files that README.md tells to copy or to run.
    scripts=["run_parallel_clients.sh"],
    data_files=[("share/twisted-lb", ["lb.tac", "examples/service.tac", "examples/twisted-lb.service"])],
    # Stands for all of them until it is known what they are.
    ext_modules=[] if PURE else [Extension("twisted_lb", [])],
    cmdclass={"build_ext": BuildOrNot, "bdist_wheel": TrulyTagged},
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

if any(map(distribution.have_run.get, ("build", "build_ext", "bdist_wheel", "editable_wheel"))):
    if distribution.has_ext_modules():
        print("twisted_lb is built compiled")
    else:
        print(f"warning: twisted_lb is built pure, and slower: {BuildOrNot.reason}", file=sys.stderr)
