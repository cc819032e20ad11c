"""`scripts/faults SEED`: the story of one seed, line by line. `scripts/faults FIRST LAST`: those of many, failures only; behind `tls`: of
towns over TLS and the PROXY protocol alone.
"""

import sys
import time
from collections.abc import Callable

from faults.securing import drawn
from faults.story import complaints, report
from faults.town import Town


def any_seed(seed: int) -> bool:
    """Every one is wanted."""
    return True


def over_tls(seed: int) -> bool:
    """Whether the town of a seed speaks TLS, or the PROXY protocol."""
    return drawn(seed) and Town(seed).securing.on


def replay(seed: int) -> int:
    """Tell it, and say what is wrong with it."""
    found = complaints(seed, print)
    print(report(seed, found) if found else f"seed {seed}: nothing is wrong")
    return bool(found)


def hunt(first: int, last: int, most: int, wanted: Callable[[int], bool]) -> int:
    """All of these seeds that are wanted, or until so many have failed."""
    began, failed, told = time.perf_counter(), 0, 0
    for seed in range(first, last + 1):
        if not wanted(seed):
            continue
        told += 1
        found = complaints(seed)
        if found:
            failed += 1
            print(report(seed, found[:3]), flush=True)
            if failed >= most:
                break
    print(f"{failed} of {told} seeds failed, {told / (time.perf_counter() - began):.0f} seeds a second")
    return bool(failed)


def main(words: list[str]) -> int:
    """One seed, or a range of them and after how many failures to stop."""
    wanted = over_tls if words[:1] == ["tls"] else any_seed
    words = words[words[:1] == ["tls"] :]
    if not all(word.isdecimal() for word in words):
        print(f"scripts/faults: a seed is a number, not {' '.join(words)!r}", file=sys.stderr)
        return 2
    numbers = [int(word) for word in words]
    if len(numbers) == 1:
        return replay(numbers[0])
    if len(numbers) in (2, 3):
        return hunt(*numbers[:2], numbers[2] if len(numbers) == 3 else 10, wanted)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
