"""The console: results on stdout, everything about them on stderr, in the form that suits a terminal, a pipe or a program."""

import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from twisted_lb.ctl.text import ASCII, LEVELS, Words, words

_INDENT: Final = " " * 7
# Ambiguous characters are two columns wide there.
_WIDE_LOCALES: Final = ("ja", "ko", "zh")


class Console:
    """Where a verb speaks.

    `styled`: with colours; `ascii_only`: glyphs of ASCII; `width`: where lines of tables are cut, None for not at all; `live`:
    progress is one place that is rewritten; `as_json`: results are the API's answers.
    """

    def __init__(
        self, out: TextIO, err: TextIO, *, as_json: bool = False, colour: str = "auto", width: int = 0
    ) -> None:
        self.out: Final = out
        self.err: Final = err
        self.as_json: Final = as_json
        self.terminal: Final = _is_terminal(out)
        self.ascii_only: Final = not speaks_unicode(os.environ)
        self.styled: Final = _styled(colour, os.environ, terminal=self.terminal)
        self.width: Final = width or (_columns(out) if self.terminal else None)
        self.live: Final = self.terminal and _is_terminal(err) and os.environ.get("TERM") != "dumb"
        # How many lines of progress stand on the terminal.
        self._drawn = 0

    def say(self, *lines: Words | str) -> None:
        """A result, as lines."""
        self._write(self.out, lines)

    def say_cut(self, lines: Sequence[Words | str]) -> None:
        """A result, as lines that are cut to the width."""
        self._write(self.out, [self.cut(line) for line in lines])

    def say_tabbed(self, cells: Sequence[Words | str]) -> None:
        """A result as fields for a program, with tabs between them."""
        self._put(self.out, "\t".join(str(self._spelled(cell)) for cell in cells))

    def cut(self, line: Words | str) -> Words:
        """A line, as wide as there is room."""
        spelled = self._spelled(line)
        return spelled if self.width is None else spelled.cut(self.width, "..." if self.ascii_only else "…")

    def tell(self, *lines: Words | str) -> None:
        """Something about the result: a hint, a warning, progress that stays."""
        self._write(self.err, lines)

    def complain(self, sentence: str, *more: str) -> None:
        """What is wrong: one sentence, and lines below it."""
        self.tell(*self.wrapped(f"lbctl: {sentence}"), *(f"{_INDENT}{line}" for line in more))

    def wrapped(self, text: str) -> list[str]:
        """A message as lines of at most 80 characters, its second one indented; no word is broken."""
        text = words(text).spans[0][0]
        wide = min(self.width or 80, 80)
        if max(map(len, text.split()), default=0) > wide // 2:  # a path: one to copy, and lines would be ragged
            return [text]
        return textwrap.wrap(text, wide, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)

    def say_json(self, answer: Any) -> None:
        """An answer of the API, indented on a terminal, else on one line."""
        form = {"indent": 2} if self.terminal else {}
        text = json.dumps(answer, ensure_ascii=self.ascii_only, **form)  # type: ignore[arg-type]
        # U+2028 and C1 controls are no escapes of JSON's own.
        self._put(self.out, "".join(one if one.isprintable() or one == "\n" else f"\\u{ord(one):04x}" for one in text))

    def draw(self, lines: Sequence[Words | str]) -> None:
        """Progress, in the place of the one before it; only where the console is live."""
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        shown = "\r\n".join(f"{self.cut(line).rendered(styled=self.styled)}\x1b[K" for line in lines)
        self.err.write(f"{up}\r{shown}\x1b[J")
        self.err.flush()
        self._drawn = len(lines)

    def wipe(self, *, keep: bool = False) -> None:
        """The end of progress: it goes, or stays where it is for good."""
        if self._drawn:
            up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
            self.err.write("\r\n" if keep else f"{up}\r\x1b[J")
            self.err.flush()
        self._drawn = 0

    def level(self, level: str) -> Words:
        """The sign of a verdict's level."""
        sign, spelled, colour = LEVELS.get(level, ("◌", "?", ""))
        return Words((spelled if self.ascii_only else sign, colour))

    def _spelled(self, line: Words | str) -> Words:
        return words(line).ascii() if self.ascii_only else words(line)

    def _write(self, stream: TextIO, lines: Sequence[Words | str]) -> None:
        for line in lines:
            self._put(stream, self._spelled(line).rendered(styled=self.styled))

    def _put(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(f"{text}\n")
        except UnicodeEncodeError:
            stream.write(text.translate(ASCII).encode("ascii", "backslashreplace").decode() + "\n")
        stream.flush()


def speaks_unicode(environ: Mapping[str, str]) -> bool:
    """Whether the locale is one of UTF-8 whose terminals draw glyphs one column wide."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    is_utf8 = "utf8" in locale.lower().replace("-", "")
    return is_utf8 and not locale.lower().startswith(_WIDE_LOCALES)


def _styled(colour: str, environ: Mapping[str, str], *, terminal: bool) -> bool:
    if colour != "auto":
        return colour == "always"
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
