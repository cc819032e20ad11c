"""Configuration files: TOML read into plain values, with an error in one line that names file, place and key."""

import codecs
import re
import tomllib
from pathlib import Path
from typing import Any

from twisted_lb.errors import ConfigError

# Longest first: UTF-32's mark begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "is UTF-32, should be UTF-8",
    codecs.BOM_UTF32_BE: "is UTF-32, should be UTF-8",
    codecs.BOM_UTF16_LE: "is UTF-16, should be UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16, should be UTF-8",
    codecs.BOM_UTF8: "begins with a byte order mark (BOM), should be UTF-8 without",
}
# Each of tomllib's words for a key or a table that stands there already.
_TWICE = ("Cannot declare ", "Cannot mutate ", "Cannot overwrite ", "Cannot redefine ")
_PLACE = re.compile(r"(.*?) (\(at (?:line (\d+), column \d+|end of document)\))", re.DOTALL)
# A key at the beginning of a line, with or without quotes and dots, and the name of a table.
_KEY = re.compile(r"""[ \t]*((?:[\w.-]|"[^"\n]*"|'[^'\n]*'|[ \t]*\.[ \t]*)+)[ \t]*=""", re.ASCII)
_TABLE = re.compile(r"[ \t]*(\[[^\n#]*\])")


def read_toml(path: Path) -> dict[str, Any]:
    """The values in a TOML file; ConfigError for one that cannot be read or is no TOML."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path.
        raise ConfigError([f"{path}: {getattr(error, 'strerror', None) or error}"]) from None
    for mark, reason in _MARKS.items():
        if data.startswith(mark):
            raise ConfigError([f"{path}: {reason}"])
    try:
        text = data.decode()
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    except tomllib.TOMLDecodeError as error:
        reason = _readable(str(error), text)
    except RecursionError:
        reason = "nested too deeply"
    raise ConfigError([f"{path}: {reason}"])


def _readable(reason: str, text: str) -> str:
    """What tomllib says, with the key or table that it leaves out."""
    found = _PLACE.fullmatch(reason)
    if found is None:
        return reason
    what, place, line = found.groups()
    if not what.startswith(_TWICE):
        return reason
    lines = text.split("\n")[: int(line) if line else None]
    table = _TABLE.match(lines[-1])
    # A value may have begun lines before the one where it ends.
    keys = (match[1] for match in map(_KEY.match, reversed(lines)) if match)
    twice = next(keys, None) if table is None else table[1]
    return reason if twice is None else f"{twice} is there twice {place}"
