"""What fuzz targets are tried with beside what is known: bytes bent by chance, and atheris where it is."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
NO_ATHERIS = importlib.util.find_spec("atheris") is None
RUNS = 20_000


def bent(data: bytes, rng: Random, known: Collection[bytes], *, spared: int, words: Sequence[bytes] = ()) -> bytes:
    """An input with a few bytes changed, taken away, doubled, or with a piece of another one that is known, or one of these words. Of its
    beginning so many bytes, which say what it is, are spared.
    """
    kept = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(spared, len(kept))
        end = min(len(kept), at + rng.choice((1, 1, 2, 4, 16)))
        match rng.randrange(6 if words else 5):
            case 0:
                kept[at] = rng.randrange(256)
            case 1:
                kept[at] ^= 1 << rng.randrange(8)
            case 2:
                del kept[at:end]
            case 3:
                kept[at:at] = kept[at:end]
            case 4:
                other = rng.choice(list(known))
                begin = rng.randrange(2, len(other))
                kept[at:end] = other[begin : begin + rng.choice((1, 4, 16, 64))]
            case _:
                kept[at:at] = rng.choice(words)
        if len(kept) < 4:
            break
    return bytes(kept)


def check_by_atheris(target: str, folder: Path, begun: Path, *, seed: int, longest: int) -> None:
    """A fuzzer breaks no law of this target, from what has begun, and from the same seed: it finds its way by the branches that are taken,
    which only the pure build shows.
    """
    found = folder / "corpus"
    found.mkdir()
    words = [f"-runs={RUNS}", f"-seed={seed}", f"-max_len={longest}", "-timeout=10", f"-artifact_prefix={folder}/"]
    words += [f"-dict={HERE / target}.dict", str(found), str(begun)]
    paths = [str(HERE.parents[1]), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, HERE / f"fuzz_{target}.py", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {RUNS} runs" in done.stderr
    assert any(found.iterdir())  # new branches were taken
