"""One seed over HTTP/2, told and judged."""

import traceback
from collections.abc import Callable

from faults_http2.oracle import judge
from faults_http2.town import Town


def complaints(
    seed: int, hear: Callable[[str], None] | None = None, look: Callable[[Town], None] = lambda town: None
) -> list[str]:
    """What is wrong with the story of a seed; `hear` is told it line by line, `look` is shown the town at its end."""
    try:
        town = Town(seed, hear).run()
        look(town)
        return judge(town)
    except Exception:
        return [traceback.format_exc()]


def report(seed: int, found: list[str]) -> str:
    """For whoever has to find out why."""
    return "\n".join([f"seed {seed}:", *(f"  {one}" for one in found), f"Replay it: scripts/faults h2 {seed}"])
