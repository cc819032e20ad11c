"""Command lines for twistd, parsed by argparse, with every mistake answered in one line."""

import argparse
import contextlib
import difflib
import errno
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import NoReturn

from twisted.python import usage

import twisted
from twisted_lb.config.problems import report
from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.errors import START_ERROR, USAGE_ERROR, ConfigError, StartError, called, fail, listen_error
from twisted_lb.pid_file import prepare

# A function that binds an interface and a port as the service is going to.
Bind = Callable[[str, int], socket.socket]

NO_KEYS: Mapping[str, str] = MappingProxyType({})
# Options of twistd's own that people type behind the command.
_TWISTDS = frozenset(
    (
        "-n",
        "--nodaemon",
        "--pidfile",
        "-l",
        "--logfile",
        "--syslog",
        "--prefix",
        "--rundir",
        "-u",
        "--uid",
        "-g",
        "--gid",
        "--umask",
    )
)


def refuse(command: str, error: ConfigError) -> NoReturn:
    """End the process with what is wrong with a configuration: in one line if that is about flags, with the status of what was
    typed, or about a file that cannot be read; else each with its FILE:LINE:COLUMN, where editors look for it.
    """
    places = [problem.place for problem in error.problems if problem.place is not None]
    if any(place.line for place in places):
        sys.stderr.write(report(error.problems, "nothing was started"))
        raise SystemExit(START_ERROR) from None
    fail(command, error, START_ERROR if places else USAGE_ERROR)


class CommandOptions(usage.Options):
    """What twistd expects of a plugin's options, around an argparse parser that a subclass makes.

    Twisted's own parser stops at the first word that is no option, so it cannot read a list such
    as `-b A B -c 1`; and its errors print the whole usage on stdout. Subclasses give `command`
    and `make_parser`, and override `accept`.
    """

    command = ""

    def make_parser(self) -> "Parser":
        """The parser of this command's flags."""
        raise NotImplementedError

    def accept(self, flags: argparse.Namespace) -> None:
        """Take what was typed; ValueError ends the process in one line, ConfigError with all that is wrong."""
        raise NotImplementedError

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the words of a command line, sys.argv's if none are given."""
        words = sys.argv[1:] if options is None else list(options)
        for word in words:
            # A .tac file is Python: `"--port", 8080`.
            if not isinstance(word, str):
                fail(self.command, f"words are strings, not {word!r}")
        # A last `--` says that no words follow, and none do; argparse 3.11 calls it a stray word.
        flags = self.make_parser().parse(words[:-1] if words[-1:] == ["--"] else words)
        try:
            self.accept(flags)
        except ConfigError as error:
            refuse(self.command, error)
        except ValueError as error:
            fail(self.command, error)
        self._look_at_files()

    def files_of_its_own(self) -> Mapping[str, str]:
        """The files beside twistd's that the service is going to write, by what they are."""
        return {}

    def _look_at_files(self) -> None:
        """End the process in one line if twistd, when it is the one who asks, cannot write its files."""
        twistd = getattr(self, "parent", None)
        if isinstance(twistd, Mapping) and "pidfile" in twistd:
            try:
                prepare(twistd, self.command, self.files_of_its_own())
            except StartError as error:
                fail(self.command, error, START_ERROR)

    def getSynopsis(self) -> str:
        """The synopsis: the first line of the help."""
        return self.make_parser().format_usage().strip()

    def getUsage(self, width: int | None = None) -> str:
        """The help."""
        return self.make_parser().format_help()

    def __str__(self) -> str:
        return self.getUsage()


class Parser(argparse.ArgumentParser):
    """argparse with help as it is written, no abbreviations, no option twice, and mistakes in one line.

    `bare` says of words that no option asked for which one they need: a pattern that such a word matches, and the hint.
    `keys` are those of the configuration file, by their names, for who takes one for an option.
    """

    def __init__(
        self,
        command: str,
        usage: str,
        description: str,
        epilog: str,
        bare: tuple[str, str],
        keys: Mapping[str, str] = NO_KEYS,
    ) -> None:
        super().__init__(
            prog=f"twistd -n {command}",
            usage=usage,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.command = command
        self._bare = bare
        self._keys = keys
        self.register("action", None, _Once)
        self.add_argument(
            "--version",
            action=_Version,
            nargs=0,
            help="say which version and which build this is, and exit",
        )

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The flags in some words, and nothing else in them."""
        flags, strays = self.parse_known_args(words)
        if strays:
            self.error(f"unrecognized arguments: {' '.join(strays)}{self._hint(strays)}")
        return flags

    def _hint(self, strays: Sequence[str]) -> str:
        pattern, hint = self._bare
        known = self._option_string_actions
        for word in strays:
            name = word.partition("=")[0]
            if name in _TWISTDS:
                return f" ({name} is an option of twistd's, and stands before {self.command})"
            if word.startswith("--") and name not in known:
                key = self._keys.get(re.sub("[-.]", "_", name[2:]))
                if key is not None:
                    return f" ({key} is a key of the file, see --config)"
                meant = [one for one in known if one.startswith(name)] or difflib.get_close_matches(name, known, n=1)
                if meant:
                    return f" (did you mean {meant[-1]}?)"
            elif re.fullmatch(pattern, word):
                return f" ({hint})"
        return ""

    def error(self, message: str) -> NoReturn:
        """End the process in one line: argparse calls it for every mistake."""
        fail(self.command, message)


class _Once(argparse.Action):
    """The action of an option with one value: a second one is a mistake, where argparse would forget the first."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, values: object, _name: object = None) -> None:
        if self.dest in namespace:
            raise argparse.ArgumentError(self, f"given twice: {getattr(namespace, self.dest)} and {values}")
        setattr(namespace, self.dest, values)


class _Version(argparse.Action):
    """The action of --version: looks the versions up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(f"{version_line()}\n")
        parser.exit()


def version_line() -> str:
    """The versions in one line: `twisted_lb 1.0 (pure), Twisted 26.10.0, CPython 3.11.7`."""
    from twisted_lb import build_info

    try:
        ours = metadata.version("twisted-lb")
    except metadata.PackageNotFoundError:
        ours = "(not installed)"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"twisted_lb {ours} ({build_info.build()}), Twisted {twisted.__version__}, {python}"


def refuse_unlistenable(wanted: Iterable[tuple[str, ListenAddress]], command: str, bind: Bind) -> None:
    """End the process in one line, with status 1, if `bind` cannot have these addresses now, all at once, for want of port or
    permission; each comes with the name of its listener, if it has one.

    A hint and no reservation: the sockets are closed again, and the service binds after the fork. A daemon that only fails
    then answers with two lines of Twisted's, the second one useless. They must not listen: who connected to one of them
    would be reset, and who waits for the port take the balancer for up.
    """
    some = list(wanted)
    with contextlib.ExitStack() as had:
        for i, (listener, listen) in enumerate(some):
            where = called(listener, listen.where)
            if any(listen.overlaps(other) for _, other in some[:i]):  # as long as nobody listens, both can be had
                in_use = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
                fail(command, listen_error(where, in_use, command), START_ERROR)
            try:
                had.enter_context(bind(listen.interface, listen.port))
            except OSError as error:
                fail(command, listen_error(where, error, command), START_ERROR)
