"""`lbctl check`, `diff`, `reload` and `config`: the configuration, as a file and as it is in force."""

import json
import re
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.session import Session, Verb, items, lines_of, part, text_of
from twisted_lb.ctl.tables import Cell, columns, table
from twisted_lb.ctl.text import BLUE_BOLD, BOLD, DIM, GREEN, NONE, RED, YELLOW, Words, count, plural

# How a line of a plan begins -> its sign, and what that replaces.
_SIGNS: Final = (
    ("adds ", "+ ", ""),
    ("removes ", "- ", ""),
    ("changes ", "~ ", ""),
    ("drops: ", "- ", "drops "),
    ("keeps ", "= ", "keeps: "),
)
_STYLES: Final = {"+": GREEN, "-": RED, "~": YELLOW, "=": DIM}
# So wide are values at most where they are cut.
_VALUE: Final = 30
# What a reload did is one line if that is no longer.
_ONE_LINE: Final = 100
_CARETS: Final = re.compile(r" +\| +\^+")
_PLACED: Final = re.compile(r"(\S+:\d+:\d+)(: .*?)(   \[\w+\])?")


def _run_diff(session: Session, arguments: Namespace) -> int:
    """Print what a reload would do, or another file in the place of the daemon's; 1 where that is something, 2 where a file cannot
    be loaded.
    """
    if arguments.file is not None:
        return _compare(session, arguments.file, arguments.against)
    if arguments.against is not None:
        raise Failure(Status.USAGE, "--against FILE is for another FILE: lbctl diff NEW --against OLD")
    try:
        return Status.REFUSED if _say_plan(session) else Status.DONE
    except Failure as failure:
        if failure.code == "bad_configuration":
            return _say_bad(session, failure, Status.USAGE)
        raise


def _compare(session: Session, file: str, against: str | None) -> int:
    """Print what a file would change in the place of another one, which is the daemon's unless it is named; both are read here."""
    # Late: they need most of the balancer.
    from twisted_lb.check import compared
    from twisted_lb.config.load import Source
    from twisted_lb.config.problems import report
    from twisted_lb.errors import ConfigError

    console = session.console
    if against is None:
        against = _file_in_force(session)
    try:
        diff = compared(Source({}, _path(against)), Source({}, _path(file)))
    except ConfigError as error:
        said = report(error.problems, "nothing was compared").rstrip("\n")
        if console.as_json:
            console.say_json({"file": file, "against": against, "problems": [str(one) for one in error.problems]})
        else:
            console.say(*map(_styled_report, said.split("\n")))
        return Status.USAGE
    if console.as_json:
        lines = list(diff.lines)
        console.say_json({"file": file, "against": against, "changed": not diff.empty, "lines": lines})
    elif diff.empty:
        console.say(f"{file} is what {against} says")
    else:
        console.say(f"{file} against {against}")
        console.say_cut([styled_change(line) for line in diff.lines])
    return Status.DONE if diff.empty else Status.REFUSED


def _file_in_force(session: Session) -> str:
    """The daemon's file. What it says by now may not be in force, and flags are laid over both: that is told."""
    status = session.status()
    file = part(status, "file")
    if not file.get("path"):
        raise Failure(
            Status.REFUSED, "the daemon has no configuration file; name one to compare with", "--against FILE"
        )
    if file.get("changed_s") is not None:
        changed = text_of(file, "changed") or text_of(file, "path")
        session.console.tell(f"{changed} has changed since it was loaded: it is compared as it is now")
    if changes := len(items(status, "changes")):
        session.console.tell(f"{plural(changes, 'runtime change')} in force: what becomes of them is not looked at")
    flags = {text_of(one, "source") for one in items(session.api.get("/v1/config"), "values")}
    typed = sorted(one for one in flags if one.startswith("-"))
    if typed:
        session.console.tell(f"the daemon has flags, which hold over every file: {', '.join(typed)}")
    return text_of(file, "path")


def _say_plan(session: Session) -> bool:
    """Print a plan; whether it changes something."""
    console, plan = session.console, session.api.get("/v1/plan")
    if console.as_json:
        console.say_json(plan)
        return bool(plan.get("changed"))
    status = session.status()
    file = text_of(part(status, "file"), "path", "the command line")
    if plan.get("changed"):
        console.say(f"{file} against generation {count(status.get('generation'))}")
        console.say_cut([styled_change(line) for line in lines_of(plan, "lines")])
    else:
        console.say(f"{file} is what generation {count(status.get('generation'))} has in force")
    console.say(*map(_styled_report, lines_of(plan, "warnings")))
    return bool(plan.get("changed"))


def styled_change(line: str) -> Words:
    """A line of a plan with its sign: `+ pool app`, `~ …`, `- …`, `= keeps …`."""
    said = signed(line)
    style = _STYLES.get(said[:1], "") if said[1:2] == " " else ""
    return Words((said[:1], style), said[1:]) if style != DIM else Words((said, DIM))


def signed(line: str) -> str:
    """A line of a plan as text."""
    for start, sign, kept in _SIGNS:
        if line.startswith(start):
            return f"{sign}{kept}{line.removeprefix(start)}"
    return line


def _say_bad(session: Session, failure: Failure, status: int) -> int:
    """Print what is wrong with a file, as `check` does, and that nothing has happened."""
    console, problem = session.console, failure.problem or {}
    if console.as_json:
        console.say_json(problem)
        return status
    report = text_of(problem, "report").rstrip("\n")
    console.say(*map(_styled_report, report.split("\n") if report else [failure.sentence]))
    generation = count(session.status().get("generation"))
    console.tell(f"generation {generation} goes on unchanged")
    return status


def _run_reload(session: Session, arguments: Namespace) -> int:
    """Load the file again."""
    try:
        if arguments.dry_run:
            _say_plan(session)
            if not session.console.as_json:
                session.console.tell("Nothing was changed.")
            return Status.DONE
        body: Answer = {"dry_run": False} | ({"reason": arguments.reason} if arguments.reason else {})
        answer = session.api.ask("POST", "/v1/reload", body=body, wait_s=RELOAD_S)
    except Failure as failure:
        if failure.code == "bad_configuration":
            return _say_bad(session, failure, Status.REFUSED)
        raise
    if session.console.as_json:
        session.console.say_json(answer)
    else:
        session.console.say(*_done(answer), *map(_styled_report, lines_of(answer, "warnings")))
    return Status.DONE


# Names are looked up that a configuration brings.
RELOAD_S: Final = 60.0


def _done(answer: Answer) -> list[Words | str]:
    generation = count(answer.get("generation"))
    if not answer.get("changed"):
        return [f"nothing has changed; generation {generation} goes on"]
    changes = [said for said in map(signed, lines_of(answer, "lines")) if said[:2] in ("+ ", "- ", "~ ")]
    line = f"generation {generation} runs: {', '.join(changes)}"
    if len(line) <= _ONE_LINE:
        return [line]
    return [f"generation {generation} runs:", *map(styled_change, changes)]


def _run_check(session: Session, arguments: Namespace) -> int:
    """Look at a file, as `twistd lb --check` does; no daemon is needed."""
    # Late: they need most of the balancer.
    from twisted_lb.check import UNREADABLE, check
    from twisted_lb.config.load import Source

    console = session.console
    status, said = check(Source({}, _path(arguments.file)), strict=arguments.strict, json=console.as_json)
    if console.as_json:
        console.say_json(json.loads(said))
    else:
        console.say(*map(_styled_report, said.rstrip("\n").split("\n")))
    # 3 is another thing here.
    return Status.USAGE if status == UNREADABLE else status


def _path(typed: str) -> Any:
    from pathlib import Path

    return Path(typed)


def _styled_report(line: str) -> Words:
    """A line of a check's report: the place bold, carets red, the code of a warning dim."""
    if _CARETS.fullmatch(line):
        return Words((line, RED))
    if placed := _PLACED.fullmatch(line):
        return Words((placed[1], BOLD), placed[2], (placed[3] or "", DIM))
    return Words(line)


def _run_config(session: Session, arguments: Namespace) -> int:
    """Print the configuration that is in force."""
    console, config = session.console, session.api.get("/v1/config")
    if console.as_json:
        console.say_json(config)
        return Status.DONE
    values = items(config, "values")
    # On a terminal the source has to be seen too.
    room = _VALUE if console.width and arguments.sources else 1 << 20
    rows: list[list[Cell]] = [[text_of(one, "key"), Words(_shown(one.get("value"))).cut(room)] for one in values]
    if arguments.sources:
        rows = [[*row, _source(text_of(one, "source"))] for row, one in zip(rows, values, strict=True)]
    console.say_cut(table(columns(f"KEY  VALUE{'  SOURCE' * arguments.sources}"), rows, ascii_only=console.ascii_only))
    return Status.DONE


def _shown(value: Any) -> str:
    """A value as the file has it, without the quotes of a text."""
    if value is None:
        return NONE
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _source(source: str) -> Words:
    style = DIM if source.startswith("default") else BLUE_BOLD if source.startswith("runtime") else ""
    return Words((source, style))


def _diff_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="instead of the daemon's; left out: the daemon's, against what is in force",
    )
    parser.add_argument("--against", metavar="FILE", help="compare with this one (no daemon is needed)")


def _check_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--strict", action="store_true", help="1 for warnings too")


def _reload_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what it would do, as diff does")
    parser.add_argument("--reason", metavar="TEXT", help="why; it is kept in the audit log")


def _config_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--sources", action="store_true", help="and where each value comes from")


CONFIG = Verb(
    "config", "config [--sources]", "what is in effect, and where it comes from", _config_arguments, _run_config
)
CHECK = Verb("check", "check FILE", "is this file well? (no daemon is needed)", _check_arguments, _run_check)
DIFF = Verb("diff", "diff [FILE]", "what would a reload, or that file, change?", _diff_arguments, _run_diff)
RELOAD = Verb("reload", "reload [--dry-run]", "load the file again", _reload_arguments, _run_reload)
