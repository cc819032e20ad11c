"""What every fault network has: stories that are told and judged by their seeds, and hunts for seeds that fail."""

import sys
import time
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

Told = TypeVar("Told")
Hear = Callable[[str], None]


class FaultNetwork(Generic[Told]):
    """One of them. `live` is the whole story of a seed, told line by line to whoever is given; `judge` what is wrong with it; `command` replays a
    seed.
    """

    def __init__(
        self, live: Callable[[int, Hear | None], Told], judge: Callable[[Told], list[str]], command: str
    ) -> None:
        self._live = live
        self._judge = judge
        self._command = command

    def complaints(
        self, seed: int, hear: Hear | None = None, look: Callable[[Told], object] | None = None
    ) -> list[str]:
        """What is wrong with the story of a seed; `hear` is told it line by line, `look` is shown what came of it at its end."""
        try:
            told = self._live(seed, hear)
            if look is not None:
                look(told)
            return self._judge(told)
        except Exception:
            return [traceback.format_exc()]

    def report(self, seed: int, found: list[str]) -> str:
        """For whoever has to find out why."""
        return "\n".join([f"seed {seed}:", *(f"  {one}" for one in found), f"Replay it: {self._command} {seed}"])

    def failed_among(self, seeds: range) -> str:
        """The reports of those that fail, empty where none does."""
        return "\n".join(self.report(seed, found) for seed in seeds if (found := self.complaints(seed)))

    def replay(self, seed: int) -> bool:
        """Tell it, and say what is wrong with it, if anything is."""
        found = self.complaints(seed, print)
        print(self.report(seed, found) if found else f"seed {seed}: nothing is wrong")
        return bool(found)

    def hunt(self, first: int, last: int, most: int = 10, wanted: Callable[[int], bool] | None = None) -> bool:
        """All of these seeds that are wanted, or until so many have failed; whether any has."""
        began, failed, told = time.perf_counter(), 0, 0
        for seed in range(first, last + 1):
            if wanted is not None and not wanted(seed):
                continue
            told += 1
            found = self.complaints(seed)
            if found:
                failed += 1
                print(self.report(seed, found[:3]), flush=True)
                if failed >= most:
                    break
        print(f"{failed} of {told} seeds failed, {told / (time.perf_counter() - began):.0f} seeds a second")
        return bool(failed)

    def main(self, words: list[str], usage: str, wanted: Callable[[int], bool] | None = None) -> int:
        """One seed, or a range of them and after how many failures to stop."""
        if not all(word.isdecimal() for word in words):
            print(f"{self._command}: a seed is a number, not {' '.join(words)!r}", file=sys.stderr)
            return 2
        numbers = [int(word) for word in words]
        if len(numbers) == 1:
            return int(self.replay(numbers[0]))
        if len(numbers) in (2, 3):
            return int(self.hunt(*numbers, wanted=wanted))
        print(usage, file=sys.stderr)
        return 2
