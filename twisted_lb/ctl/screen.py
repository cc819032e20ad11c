"""The screen: a terminal that is given back as it was, whatever ends the program, and the keys that are typed on it."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final, TextIO

_BEGIN: Final = "\x1b[?1049h\x1b[?25l"
_END: Final = "\x1b[?25h\x1b[?1049l"
# DEC 2026: what is between is shown at once, by terminals that know it.
_AT_ONCE: Final = ("\x1b[?2026h", "\x1b[?2026l")

KEYS: Final = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[Z": "back tab",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "\x08": "backspace",
}


def keys_in(typed: str) -> list[str]:
    """The keys in what a terminal has sent; what is unknown among them is left out."""
    found = []
    while typed:
        for sequence in sorted(KEYS, key=len, reverse=True):
            if typed.startswith(sequence):
                found.append(KEYS[sequence])
                typed = typed[len(sequence) :]
                break
        else:
            if typed[0].isprintable():
                found.append(typed[0])
            typed = typed[1:]
    return found


class Screen:
    """A terminal in the hands of `lbctl top`."""

    def __init__(self, out: TextIO, keys: int) -> None:
        self._out = out
        self._keys = keys

    def show(self, lines: Sequence[str]) -> None:
        """A frame, in the place of the one before."""
        shown = "\r\n".join(f"{line}\x1b[K" for line in lines)
        self._out.write(f"{_AT_ONCE[0]}\x1b[H{shown}\x1b[J{_AT_ONCE[1]}")
        self._out.flush()

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            found = os.get_terminal_size(self._out.fileno())
        except OSError:
            return 80, 24
        return found.columns or 80, found.lines or 24

    def typed(self, seconds: float) -> list[str]:
        """The keys that are typed, at the latest after so long; `q` where nobody can type any more."""
        readable, _, _ = select.select([self._keys], [], [], max(0.0, seconds))
        if not readable:
            return []
        read = os.read(self._keys, 1024)
        return keys_in(read.decode("utf-8", "replace")) if read else ["q"]


@contextmanager
def screen(out: TextIO) -> Iterator[Screen]:
    """The terminal for a while: no echo, no line editing, a page of its own; given back at any end, a SIGTERM and a SIGHUP too."""
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    heard = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(keys)
        out.write(_BEGIN)
        out.flush()
        yield Screen(out, keys)
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
        try:
            out.write(_END)
            out.flush()
        except OSError:
            pass  # the terminal is gone, and nobody is left to set it right for
        for number, handler in heard.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
