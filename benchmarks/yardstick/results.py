"""The stored runs: benchmarks/results/NAME.json."""

import datetime as dt
import json
from pathlib import Path

from yardstick import machine

FOLDER = Path(__file__).parent.parent / "results"


def save(name: str, versions: dict[str, str], measured: dict[str, dict]) -> Path:
    """Keep what was measured under that name; what the file has of other measurements, by the same versions, stays.

    RuntimeError: there is a file of that name, from other versions or another machine.
    """
    file = FOLDER / f"{name}.json"
    here = machine.describe()
    kept = json.loads(file.read_text()) if file.exists() else {"machine": here, "versions": {}, "measurements": {}}
    others = {key for key, value in versions.items() if kept["versions"].get(key, value) != value}
    if others or kept["machine"] != here:
        raise RuntimeError(
            f"{file.name} is of another machine or version ({', '.join(sorted(others))}): choose another name"
        )
    kept["when"] = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    kept["versions"] |= versions
    kept["measurements"] |= measured
    FOLDER.mkdir(exist_ok=True)
    file.write_text(dumped(kept))
    return file


def dumped(value: dict) -> str:
    """JSON with a line for each sample, so that a difference can be read."""
    text = json.dumps(rounded(value), indent=1)
    return text + "\n"


def rounded(value: object) -> object:
    """To six digits, which is more than they are worth."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(key): rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return value


def newest(having: str = "small-64") -> dict:
    """The newest run in which this was measured: the one that the page shows; what is measured by itself is kept by itself.

    ValueError: there is none.
    """
    runs = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]
    return max((run for run in runs if having in run["measurements"]), key=lambda run: run["when"])
