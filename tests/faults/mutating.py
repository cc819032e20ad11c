"""Code broken on purpose, each time in one place, to see that a fault network notices; which mutations there are it says itself.

A mutation is a piece of text of one definition of the package and what stands there instead; it is applied to a copy. The
definition is found by its qualified name, in whatever file it stands, so that moving it breaks nothing. A name that is not
defined exactly once in the package, or text that is not exactly once in it, is an error: the mutation has to follow the code.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent.parent
PACKAGE = TESTS.parent / "twisted_lb"


class Change(NamedTuple):
    """`old` stands once in the definition `where`, such as `Exchange._drop` or `IDEMPOTENT`; `new` is put in its place."""

    where: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """Changes that belong together."""

    name: str
    changes: tuple[Change, ...]

    @property
    def where(self) -> tuple[str, ...]:
        """The definitions that it changes, each once."""
        return tuple(dict.fromkeys(change.where for change in self.changes))


def once(name: str, where: str, old: str, new: str = "pass") -> Mutation:
    """A mutation of one change; left out, `new` makes a statement do nothing."""
    return Mutation(name, (Change(where, old, new),))


@cache
def definitions(source: str) -> dict[str, list[ast.stmt]]:
    """The classes, functions and assignments by their qualified names, those under an `if` or `try` included."""
    found: dict[str, list[ast.stmt]] = {}
    pending: list[tuple[str, ast.AST]] = [("", ast.parse(source))]
    while pending:
        prefix, parent = pending.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.expr):
                continue
            names = _names(node)
            if isinstance(node, ast.stmt):
                for name in names:
                    found.setdefault(prefix + name, []).append(node)
            below = f"{prefix}{names[0]}." if isinstance(node, ast.ClassDef | ast.FunctionDef) else prefix
            pending.append((below, node))
    return found


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def changed(sources: Mapping[Path, str], change: Change) -> tuple[Path, str]:
    """Which of the files it is that has the definition, and that file, broken; LookupError when there is not just one."""
    parts = change.where.split(".")
    found = [
        (path, node)
        for path, source in sources.items()
        if all(part in source for part in parts)  # parsing takes a hundred times as long
        for node in definitions(source).get(change.where, ())
    ]
    if len(found) != 1:
        files = ", ".join(sorted(path.name for path, _ in found))
        raise LookupError(f"{change.where} is defined {len(found)} times, not once: {files}")
    path, node = found[0]
    lines = sources[path].splitlines(keepends=True)
    before, own, after = (
        "".join(part)
        for part in (lines[: node.lineno - 1], lines[node.lineno - 1 : node.end_lineno], lines[node.end_lineno :])
    )
    if own.count(change.old) != 1:
        raise LookupError(f"{change.where} has this {own.count(change.old)} times, not once:\n{change.old}")
    return path, before + own.replace(change.old, change.new) + after


def broken(mutation: Mutation, package: Path) -> dict[Path, str]:
    """The files of the package that the mutation changes, broken; LookupError when one is not what it was."""
    sources = {path: path.read_text() for path in package.rglob("*.py")}
    files: dict[Path, str] = {}
    for change in mutation.changes:
        path, source = changed(sources | files, change)
        files[path] = source
    return files


def broken_copy(mutation: Mutation, where: Path) -> Path:
    """A copy of the package with the mutation in it; the folder to import it from."""
    copy = where / "twisted_lb"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for path, source in broken(mutation, copy).items():
        path.write_text(source)
    return where


def caught_at(mutation: Mutation, where: Path, most: int, network: str) -> tuple[int | None, str]:
    """How many seeds it takes until this fault network complains, None when it does not; and what it says."""
    paths = [str(broken_copy(mutation, where)), str(TESTS)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", network, "0", str(most - 1), "1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None, done.stdout
    said = done.stdout[max(done.stdout.find("seed "), 0) :]
    assert said.startswith("seed "), done.stdout + done.stderr
    return int(said.partition(":")[0].removeprefix("seed ")) + 1, said


def row_of(mutation: Mutation, seeds: int | None, said: str) -> str:
    """The row of a table: what was broken, where, after how many seeds it was noticed, and by which words."""
    where = ", ".join(f"`{name}`" for name in mutation.where)
    return f"| {mutation.name} | {where} | {seeds} | {said.splitlines()[1].strip() if seeds else ''} |"


def tell_of_each(mutations: Iterable[Mutation], network: str, words: Sequence[str]) -> None:
    """Print the row of each: `python -m NETWORK.mutations SEEDS FOLDER [PART OF A NAME ...]`."""
    most, folder, parts = int(words[0]), Path(words[1]), words[2:]
    for number, mutation in enumerate(mutations):
        if parts and not any(part in mutation.name for part in parts):
            continue
        where = folder / str(number)
        where.mkdir(parents=True)
        print(row_of(mutation, *caught_at(mutation, where, most, network)), flush=True)
        shutil.rmtree(where)


def check_that_it_applies(mutation: Mutation) -> None:
    """What it changes is there, and what comes of it is Python."""
    files = broken(mutation, PACKAGE)
    assert files
    for path, source in files.items():
        compile(source, path, "exec")
        assert source != path.read_text()
