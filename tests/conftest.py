"""After each test nothing may be left behind: no delayed call, no reader, no error that nobody looked at."""

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from twisted.logger import LogLevel, globalLogPublisher

# No test asserts a time: a busy machine is not a defect. The same examples every time, so that a run can be repeated.
settings.register_profile("ours", deadline=None, derandomize=True)
settings.load_profile("ours")

# Under nohup a hangup is ignored, in the background of a script an interrupt, by whoever is started too; what they do is a
# subject of tests.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    import some

    some.LONG = config.option.markexpr == "long"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays to the end: to look through it for cycles again and again is half of what collecting costs."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class LoggedErrors:
    """What was logged as a failure or as critical; a test that provokes some takes them with `take`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            self.events.append(event)

    def take(self) -> list[dict[str, Any]]:
        """The errors so far, which are expected then."""
        taken, self.events = self.events, []
        return taken


def describe(event: dict[str, Any]) -> str:
    failure = event.get("log_failure")
    text = str(event.get("log_format"))
    return f"{text}: {failure.getBriefTraceback()}" if failure is not None else text


def left_in_the_reactor() -> list[object]:
    from twisted.internet import reactor

    # The reactor's own waker stays.
    readers = [reader for reader in reactor.getReaders() if "Waker" not in type(reader).__name__]
    return [*reactor.getDelayedCalls(), *readers, *reactor.getWriters()]


FAILED: pytest.StashKey[bool] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(autouse=True)
def logged_errors(request: pytest.FixtureRequest) -> Iterator[LoggedErrors]:
    """Every test: fails on what it leaves behind. Asked for by name: the errors that the test provokes."""
    errors = LoggedErrors()
    globalLogPublisher.addObserver(errors)
    before = left_in_the_reactor()
    yield errors
    if request.node.stash.get(FAILED, False) and "wires" in sys.modules:
        sys.modules["wires"].cut()
    # A Deferred tells its unhandled error when it is collected; the young generations hold what the test made.
    gc.collect(1)
    globalLogPublisher.removeObserver(errors)
    left = [one for one in left_in_the_reactor() if one not in before]
    for one in left:
        if hasattr(one, "cancel"):
            one.cancel()
    assert not left, f"left in the reactor: {left}"
    assert not errors.events, "logged errors: " + "\n".join(describe(event) for event in errors.events)


@pytest.fixture
def build() -> Iterator[Callable[..., Any]]:
    """Makes houses, which are closed behind the test."""
    from house import House

    houses: list[House] = []

    def one(*names: str, **options: Any) -> House:
        houses.append(House(*names, **options))
        return houses[-1]

    yield one
    for house in houses:
        house.close()
