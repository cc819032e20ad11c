"""`lbctl`: the command line, and how it ends, always with a status and never with a traceback."""

import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter, _ActionsContainer
from collections.abc import Sequence
from traceback import extract_tb
from typing import Final, NoReturn

from twisted_lb.ctl import (
    asking,
    backends,
    certificates,
    doctor,
    dump,
    events,
    files,
    members,
    status,
    steering,
    tail,
    top,
    wellbeing,
    workers,
)
from twisted_lb.ctl.completion import completion
from twisted_lb.ctl.console import Console
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.numbers import whole
from twisted_lb.ctl.session import Clock, Session, Verb
from twisted_lb.ctl.text import did_you_mean, printable

# Headings, and the verbs below each.
GROUPS: Final[dict[str, tuple[Verb, ...]]] = {
    "Look": (
        *status.VERBS,
        *backends.VERBS,
        *top.VERBS,
        *events.VERBS,
        *tail.VERBS,
        *certificates.VERBS,
        *workers.VERBS,
        files.CONFIG,
    ),
    "Ask": (*asking.VERBS, files.CHECK, files.DIFF),
    "Steer (a reason is kept: --reason TEXT)": (*steering.VERBS, *members.VERBS, files.RELOAD, workers.UPGRADE),
    "Else": (
        wellbeing.HEALTHCHECK,
        *doctor.VERBS,
        *dump.VERBS,
        completion(lambda: VERBS, lambda verb: parser_of(verb)),  # noqa: PLW0108  # it stands below
        wellbeing.VERSION,
    ),
}
VERBS: Final[dict[str, Verb]] = {verb.name: verb for group in GROUPS.values() for verb in group}

_USAGE: Final = "lbctl [--admin WHERE] [--json] [--color WHEN] VERB …"
_ENDING: Final = """\
NAME is pool/backend, a unique backend alone, or a glob: 'app/b*'
WHERE is unix:PATH or http://HOST:PORT; also TWISTED_LB_ADMIN
exit: 0 done  1 refused or not well  2 usage  3 not reached  4 no such name
      5 time over
"""
# So wide are verbs with their arguments in the list of all.
_TYPED: Final = 23


class _Parser(ArgumentParser):
    """A parser whose mistakes are one line, of status 2."""

    def error(self, message: str) -> NoReturn:
        """Refuse."""
        raise Failure(Status.USAGE, f"{message}; see {self.prog} --help")

    def format_help(self) -> str:
        """The help; that of `lbctl` itself names all verbs."""
        return overview() if self.prog == "lbctl" else super().format_help()


def overview() -> str:
    """What `lbctl --help` prints."""
    lines = [f"usage: {_USAGE}", ""]
    for heading, verbs in GROUPS.items():
        lines += [heading, *(f"  {verb.usage:<{_TYPED}}  {verb.summary}" for verb in verbs), ""]
    return "\n".join([*lines, _ENDING])


def parser_of(verb: Verb) -> ArgumentParser:
    """The parser of one verb, with the options that all have."""
    parser = _Parser(
        prog=f"lbctl {verb.name}",
        description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.arguments(parser)
    _add_common(parser.add_argument_group("everywhere"))
    return parser


def _add_common(group: _ActionsContainer) -> None:
    add = group.add_argument
    add("--admin", metavar="WHERE", default=SUPPRESS, help="unix:PATH or http://HOST:PORT of the daemon")
    add("--token-file", metavar="FILE", default=SUPPRESS, help="the token to show; else TWISTED_LB_TOKEN")
    add("--json", action="store_true", default=SUPPRESS, help="the API's answer, as it is")
    add("--color", choices=["always", "never", "auto"], default=SUPPRESS, help="auto: on a terminal, unless NO_COLOR")
    add(
        "--columns",
        type=whole(1, 10_000),
        metavar="N",
        default=SUPPRESS,
        help="cut tables at that width, on a terminal or not",
    )


def parsed(argv: Sequence[str]) -> tuple[Verb | None, Namespace]:
    """The verb and its arguments; None where help was asked for, whatever else was typed."""
    first = _Parser(prog="lbctl", allow_abbrev=False, add_help=False)
    first.add_argument("-h", "--help", action="store_true")
    first.add_argument("--version", action="store_true")
    _add_common(first)
    leading = _before_the_verb(argv)
    common = first.parse_args(argv[:leading])
    if common.help or not (argv[leading:] or common.version):
        return None, common
    name = "version" if common.version else argv[leading]
    if name not in VERBS:
        raise Failure(Status.USAGE, f'there is no verb "{name}"{did_you_mean(name, VERBS)}; see lbctl --help')
    arguments = parser_of(VERBS[name]).parse_args(argv[leading + 1 :], Namespace(**vars(common)))
    return VERBS[name], arguments


_WITH_VALUE: Final = {"--admin", "--token-file", "--color", "--columns"}


def _before_the_verb(argv: Sequence[str]) -> int:
    """How many words stand before the verb."""
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        at += 2 if argv[at] in _WITH_VALUE else 1
    return min(at, len(argv))


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """One call; the status to end with."""
    words = sys.argv[1:] if argv is None else argv
    _open_what_is_closed()
    console = Console(sys.stdout, sys.stderr)
    try:
        verb, arguments = parsed(words)
        if verb is None:
            return _help(console, asked=bool(words))
        console = _console(arguments)
        session = Session(
            console,
            clock or Clock(),
            admin=getattr(arguments, "admin", None),
            token_file=getattr(arguments, "token_file", None),
        )
        return verb.run(session, arguments)
    except Exception as error:
        return _ended(console, error)
    except KeyboardInterrupt:
        console.wipe(keep=True)
        return Status.INTERRUPTED
    except SystemExit as error:  # argparse, after --help
        return error.code if isinstance(error.code, int) else Status.USAGE


def _open_what_is_closed() -> None:
    """Streams that the caller has closed (`>&-`) lead nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the end


def _help(console: Console, *, asked: bool) -> int:
    if asked:
        console.say(*overview().rstrip("\n").split("\n"))
        return Status.DONE
    console.tell(*overview().rstrip("\n").split("\n"))
    return Status.USAGE


def _console(arguments: Namespace) -> Console:
    return Console(
        sys.stdout,
        sys.stderr,
        as_json=getattr(arguments, "json", False),
        colour=getattr(arguments, "color", "auto"),
        width=max(0, getattr(arguments, "columns", 0)),
    )


def _ended(console: Console, error: Exception) -> int:
    """The end by an error: in a sentence, whatever it is."""
    try:
        console.wipe(keep=True)
        if isinstance(error, BrokenPipeError):
            return _nobody_reads()
        if isinstance(error, Failure):
            if console.as_json and error.problem is not None:
                console.say_json(error.problem)
            console.complain(error.sentence, *error.more)
            return error.status
        if isinstance(error, OSError):  # what is written to is full, say
            console.complain(f"{error.strerror or error}")
            return Status.REFUSED
        place = extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        console.complain(f"{type(error).__name__}: {printable(str(error))} ({where}); this is a mistake of lbctl's")
    except BrokenPipeError:
        return _nobody_reads()
    except OSError:  # a full disk: there is nowhere to say it
        pass
    return Status.REFUSED


def _nobody_reads() -> int:
    """A pipe's other end has seen enough (`| head`): nothing is wrong, and Python shall not complain when it flushes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):
            pass  # closed, or no file: it is not flushed either
    os.close(nowhere)
    return Status.DONE
