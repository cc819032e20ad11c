"""What a stored run says of where it was made: what a reader must know to compare, and no more."""

KEPT = ("python_implementation", "python_version", "machine", "system", "release")


def pytest_benchmark_update_machine_info(machine_info: dict) -> None:
    """No name of a machine."""
    cpu = machine_info.get("cpu", {})
    kept = {key: machine_info[key] for key in KEPT}
    machine_info.clear()
    machine_info.update(kept, cpu={"brand_raw": cpu.get("brand_raw", "unknown")})


def pytest_benchmark_update_commit_info(commit_info: dict) -> None:
    """No commit: the run is stored with it."""
    commit_info.clear()
