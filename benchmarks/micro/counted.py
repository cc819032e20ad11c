"""One subject called so many times and nothing else, for `scripts/bench --count`: counted.py SUBJECT TIMES [calls].

With `calls` it prints how many functions were called, those of Python and those of C. Without a subject it prints the
names of all.
"""

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable

from subjects import SUBJECTS


def repeat(run: Callable[[], object], times: int) -> None:
    """What is counted."""
    for _ in range(times):
        run()


def calls(run: Callable[[], object], times: int) -> Counter:
    """How often a function is called, by sys.setprofile's name for it: `call`, one of Python; `c_call`, one of C."""
    seen = Counter()

    def profile(_frame: object, event: str, _argument: object) -> None:
        seen[event] += 1

    sys.setprofile(profile)
    repeat(run, times)
    sys.setprofile(None)
    return seen


def main() -> None:
    """Print what was asked for, and end without the interpreter's clearing up: it would cost by what is left."""
    if len(sys.argv) == 1:
        print("\n".join(SUBJECTS))
        return
    name, times, *what = sys.argv[1:]
    run = SUBJECTS[name]()
    gc.disable()
    gc.freeze()
    if what:
        seen = calls(run, int(times))
        print(seen["call"], seen["c_call"], flush=True)
    else:
        repeat(run, int(times))
    os._exit(0)


if __name__ == "__main__":
    main()
