"""The reference: the verbs as docs/lbctl.md shows them, made from the parsers.

`python -m twisted_lb.ctl.reference docs/lbctl.md` renews it.
"""

import sys
from argparse import SUPPRESS, Action
from pathlib import Path
from typing import Final

from twisted_lb.ctl.main import GROUPS, parser_of
from twisted_lb.ctl.session import Verb

BEGIN: Final = "<!-- made by python -m twisted_lb.ctl.reference docs/lbctl.md -->\n"
END: Final = "<!-- until here -->\n"


def table() -> str:
    """The verbs and their options as a table of Markdown."""
    lines = ["| verb | does | options |", "|---|---|---|"]
    lines += [_row(verb) for verbs in GROUPS.values() for verb in verbs]
    return "\n".join(lines) + "\n"


def _row(verb: Verb) -> str:
    # The group of options that all verbs have is the last one.
    parser = parser_of(verb)
    common = set(map(id, parser._action_groups[-1]._group_actions))  # argparse has no other way to ask
    own = [one for one in parser._actions if one.option_strings and id(one) not in common and one.dest != "help"]
    return f"| `lbctl {verb.usage}` | {verb.summary} | {'; '.join(map(_option, own))} |"


def _option(action: Action) -> str:
    names = ", ".join(action.option_strings)
    value = (
        f" {action.metavar or '|'.join(map(str, action.choices or [action.dest.upper()]))}" if action.nargs != 0 else ""
    )
    said = action.help if action.help not in (None, SUPPRESS) else ""
    return f"`{names}{value}`" + (f" {said}" if said else "")


def renewed(text: str) -> str:
    """A text with its table made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{table()}\n{end}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
