"""`scripts/faults h2 SEED`: the story of one seed over HTTP/2, line by line; `scripts/faults h2 FIRST LAST [FAILURES]`: of many, failures only."""

import sys
import time

from faults_http2.story import complaints, report


def main(words: list[str]) -> int:
    """One seed, or a range of them and after how many failures to stop."""
    if not 1 <= len(words) <= 3 or not all(word.isdecimal() for word in words):
        print(__doc__, file=sys.stderr)
        return 2
    numbers = [int(word) for word in words]
    if len(numbers) == 1:
        found = complaints(numbers[0], print)
        print(report(numbers[0], found) if found else f"seed {numbers[0]}: nothing is wrong")
        return bool(found)
    first, last, most = (*numbers, 10)[:3]
    began, failed = time.perf_counter(), 0
    told = 0
    for seed in range(first, last + 1):
        told += 1
        found = complaints(seed)
        if found:
            failed += 1
            print(report(seed, found[:3]), flush=True)
            if failed >= most:
                break
    print(f"{failed} of {told} seeds failed, {told / (time.perf_counter() - began):.0f} seeds a second")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
