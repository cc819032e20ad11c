"""`scripts/faults SEED`: the story of one seed, line by line. `scripts/faults FIRST LAST`: those of many, failures only; behind `tls`: of
towns over TLS and the PROXY protocol alone.
"""

import sys

from faults.securing import drawn
from faults.story import NETWORK
from faults.town import Town


def over_tls(seed: int) -> bool:
    """Whether the town of a seed speaks TLS, or the PROXY protocol."""
    return drawn(seed) and Town(seed).securing.on


def main(words: list[str]) -> int:
    """One seed, or a range of them and after how many failures to stop."""
    tls = words[:1] == ["tls"]
    return NETWORK.main(words[tls:], str(__doc__), over_tls if tls else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
