"""The middleware that reports load: what WSGI applications and their servers see of it, and what the balancer reads."""

import ast
import gc
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from math import exp, inf, nan
from pathlib import Path
from wsgiref.types import FileWrapper
from wsgiref.util import FileWrapper as PlainFileWrapper
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from twisted_lb import report
from twisted_lb.core import load_report
from twisted_lb.core.load_report import read_report
from twisted_lb.report import Load, Wsgi, wsgi

SOURCE = Path(report.__file__)
RUNNING, WAITING, UTILIZATION = report.RUNNING, report.WAITING, report.APPLICATION
NOW = 1_800_000_000.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def load(clock):
    return Load(clock, lambda: NOW)


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


class Server:
    """What a WSGI server does for one request after the other."""

    def __init__(self, application, **environ):
        self.application = application
        self.environ = {"wsgi.multithread": True, **environ}
        self.headers = None
        self.written = []

    def start_response(self, status, headers, exc_info=None):
        self.status, self.headers, self.exc_info = status, headers, exc_info
        return self.written.append

    def ask(self, **environ):
        return self.application({**self.environ, **environ}, self.start_response)

    def reports(self):
        return [value for name, value in self.headers or [] if name.lower() == report.FIELD]

    def said(self, **environ):
        """The metrics of a whole request."""
        answer = self.ask(**environ)
        for _ in answer:
            pass
        answer.close()
        (value,) = self.reports()
        return metrics(value)


def metrics(value: str) -> Mapping[str, float]:
    """As the balancer reads them."""
    found = read_report(value.encode())
    assert found is not None, value
    return found.metrics


def seen(load):
    now = load.seen()
    return now.running, now.waiting


# What is said


def test_a_request_is_running_while_its_head_is_made(load):
    server = Server(wsgi(hello, load=load))
    answer = server.ask()
    assert server.headers == [("Content-Type", "text/plain"), ("endpoint-load-metrics", f"TEXT {RUNNING}=1")]
    assert list(answer) == [b"hello"]
    answer.close()
    assert seen(load) == (0, 0)


def test_names_and_bounds_are_those_that_the_balancer_reads():
    assert {*load_report.UTILIZATIONS, "rps_fractional", "eps"} == set(report.METRICS)
    assert report._NAME.pattern == load_report._NAME.pattern
    assert report.MOST_BYTES == load_report.MOST_BYTES
    assert load_report.is_metric(RUNNING)
    assert load_report.is_metric(WAITING)


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ("", "TEXT"),
        ("text", "TEXT"),
        ("TEXT", "TEXT"),
        (" Json ", "JSON"),
        ("bin, json", "JSON"),
        ("json,json", "JSON"),
        ("bin", None),
        ("text/plain", None),
        ("\u00e9", None),
    ],
)
def test_a_report_has_the_form_that_was_asked_for_or_there_is_none(load, asked, form):
    server = Server(wsgi(hello, load=load))
    server.ask(HTTP_ENDPOINT_LOAD_METRICS_FORMAT=asked).close()
    assert [value.partition(" ")[0] for value in server.reports()] == ([form] if form else [])
    assert server.headers[0] == ("Content-Type", "text/plain")


def test_json_says_the_same_as_text(load):
    said = {"kv_cache_usage_perc": 0.25, "eps": 1e-6}
    server = Server(wsgi(hello, capacity=2, metrics=lambda: said, load=load))
    text = server.said()
    assert server.said(HTTP_ENDPOINT_LOAD_METRICS_FORMAT="json") == text
    assert json.loads(server.reports()[0].removeprefix("JSON ")) == {
        "application_utilization": 0,
        "eps": 1e-06,
        "named_metrics": {"num_requests_running": 1, "kv_cache_usage_perc": 0.25},
    }


def test_json_without_named_metrics_has_no_table_of_them():
    assert report._written("JSON", {"eps": 1}) == 'JSON {"eps": 1}'


# Utilization


def test_utilization_is_how_much_of_the_capacity_was_busy_in_the_last_second(load, clock):
    server = Server(wsgi(hello, capacity=4, load=load))
    first, second = server.ask(), server.ask()
    clock.now += 0.5
    assert server.said()[UTILIZATION] == pytest.approx(2 / 4 * (1 - exp(-0.5)), abs=1e-4)
    first.close()
    second.close()
    clock.now += 1.0
    assert server.said()[UTILIZATION] == pytest.approx(2 / 4 * (1 - exp(-0.5)) * exp(-1.0), abs=1e-4)
    clock.now += 1000.0
    assert server.said()[UTILIZATION] == 0


def test_what_is_always_busy_is_full_and_more_than_its_capacity_is_more_than_that(load, clock):
    server = Server(wsgi(hello, capacity=2, load=load))
    answers = [server.ask() for _ in range(3)]
    clock.now += 100
    assert server.said()[UTILIZATION] == 1.5
    for answer in answers:
        answer.close()


def test_a_clock_that_stands_still_or_goes_back_breaks_nothing(load, clock):
    server = Server(wsgi(hello, capacity=1, load=load))
    answer = server.ask()
    clock.now -= 5
    assert server.said()[UTILIZATION] == 0
    answer.close()


def test_where_the_server_has_one_thread_that_is_the_capacity(load, clock):
    def slow(environ, start_response):
        clock.now += 100
        return hello(environ, start_response)

    server = Server(wsgi(slow, load=load), **{"wsgi.multithread": False})
    assert server.said()[UTILIZATION] == 1
    assert UTILIZATION not in server.said(**{"wsgi.run_once": True})


def test_where_greenlets_are_no_threads_to_the_server_nothing_is_concluded_from_that(load):
    server = Server(wsgi(hello, load=load), **{"wsgi.multithread": False})
    assert UTILIZATION in server.said()
    with_another = server.ask()
    assert UTILIZATION not in server.said()
    with_another.close()
    assert UTILIZATION not in server.said()


@pytest.mark.parametrize("environ", [{}, {"wsgi.multithread": True}])
def test_of_an_unknown_number_of_threads_no_utilization_is_said(load, environ):
    server = Server(wsgi(hello, load=load))
    server.environ = environ
    assert set(server.said()) == {RUNNING}


def test_applications_that_share_a_load_are_counted_together(load):
    one, other = (Server(wsgi(hello, load=load)) for _ in range(2))
    answer = one.ask()
    assert other.said()[RUNNING] == 2
    answer.close()


# Ends


def broken(environ, start_response):
    raise KeyError("x")


def leaving(environ, start_response):
    raise SystemExit


def silent(environ, start_response):
    return []


@pytest.mark.parametrize(("application", "error"), [(broken, KeyError), (leaving, SystemExit)])
def test_an_application_that_raises_runs_no_longer(load, application, error):
    with pytest.raises(error):
        Server(wsgi(application, load=load)).ask()
    assert seen(load) == (0, 0)


def test_a_start_response_that_raises_ends_the_request(load):
    def refuse(status, headers):
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        wsgi(hello, load=load)({}, refuse)
    assert seen(load) == (0, 0)


def test_an_application_that_never_starts_a_response_has_no_report_and_ends(load):
    server = Server(wsgi(silent, load=load))
    answer = server.ask()
    assert (server.headers, seen(load)) == (None, (1, 0))
    answer.close()
    assert seen(load) == (0, 0)


def streamed(environ, start_response):
    start_response("200 OK", [])
    try:
        yield b"a"
        yield b"b"
    finally:
        environ["ended"].append(True)


def test_a_generator_runs_until_it_is_closed_and_is_closed_once(load):
    ended = []
    server = Server(wsgi(streamed, load=load))
    answer = server.ask(ended=ended)
    assert server.headers is None  # it has not begun
    assert next(answer) == b"a"
    assert server.reports() == [f"TEXT {RUNNING}=1"]
    assert seen(load) == (1, 0)
    answer.close()  # the client has left
    answer.close()
    assert (ended, seen(load)) == ([True], (0, 0))


def test_after_the_last_piece_it_runs_until_it_is_closed(load):
    answer = Server(wsgi(streamed, load=load)).ask(ended=[])
    assert list(answer) == [b"a", b"b"]
    assert seen(load) == (1, 0)
    answer.close()
    assert seen(load) == (0, 0)


def test_one_that_is_never_iterated_ends_when_it_is_closed(load):
    answer = Server(wsgi(streamed, load=load)).ask(ended=[])
    answer.close()
    assert seen(load) == (0, 0)


def test_one_that_nobody_closes_ends_when_it_is_forgotten(load):
    answer = Server(wsgi(streamed, load=load)).ask(ended=[])
    next(answer)
    del answer
    gc.collect()
    assert seen(load) == (0, 0)


def test_a_circle_that_is_collected_while_the_load_is_looked_at_holds_up_nobody(load):
    """The collector may run wherever the interpreter is, also while the lock is held."""

    class Circle:
        pass

    circle = Circle()
    circle.itself, circle.request = circle, load.begin()
    del circle
    with load._lock:
        gc.collect()
        assert load._running == set()


def test_an_answer_whose_close_raises_has_ended(load):
    class Bad(list):
        def close(self):
            raise OSError("no")

    answer = Server(wsgi(lambda environ, start_response: Bad(), load=load)).ask()
    with pytest.raises(OSError, match="no"):
        answer.close()
    assert seen(load) == (0, 0)


def test_an_answer_that_raises_on_its_way_ends_when_it_is_closed(load):
    def failing(environ, start_response):
        start_response("200 OK", [])
        yield b"a"
        raise KeyError("late")

    answer = Server(wsgi(failing, load=load)).ask()
    next(answer)
    with pytest.raises(KeyError):
        next(answer)
    answer.close()
    assert seen(load) == (0, 0)


def test_a_request_ends_once_however_often_that_is_said(load):
    one, other = load.begin(), load.begin()
    one.end()
    one.end()
    del one
    assert seen(load) == (1, 0)
    assert repr(load) == "<Load 1 running, 0 waiting>"
    other.end()


def test_threads_that_begin_and_end_leave_nothing(load):
    application = wsgi(hello, load=load)

    def many():
        server = Server(application)
        for number in range(500):
            answer = server.ask()
            if number % 3:
                answer.close()

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert seen(load) == (0, 0)
    assert 1 <= load.most_running <= 16


# What a server and an application see


def test_a_list_keeps_its_length_and_a_generator_has_none(load):
    assert len(Server(wsgi(hello, load=load)).ask()) == 1
    assert not hasattr(Server(wsgi(streamed, load=load)).ask(ended=[]), "__len__")


def test_a_list_may_be_iterated_again(load):
    answer = Server(wsgi(hello, load=load)).ask()
    assert next(answer) == b"hello"
    assert [*answer, *answer] == [b"hello"] * 2


def test_write_is_the_servers_own(load):
    def writing(environ, start_response):
        write = start_response("200 OK", [])
        write(b"by hand")
        return []

    server = Server(wsgi(writing, load=load))
    server.ask().close()
    assert server.written == [b"by hand"]
    assert server.reports() == [f"TEXT {RUNNING}=1"]


def test_another_head_after_an_error_has_a_report_too(load):
    def changing(environ, start_response):
        start_response("200 OK", [])
        try:
            {}["page"]
        except KeyError:
            start_response("500 Oh", [], sys.exc_info())
        return []

    server = Server(wsgi(changing, load=load))
    server.ask().close()
    assert server.status == "500 Oh"
    assert server.exc_info[0] is KeyError
    assert len(server.reports()) == 1


def test_the_applications_own_list_is_not_touched(load):
    own = [("A", "b")]

    def application(environ, start_response):
        start_response("200 OK", own)
        return []

    Server(wsgi(application, load=load)).ask().close()
    assert own == [("A", "b")]


@pytest.mark.parametrize("name", ["endpoint-load-metrics", "Endpoint-Load-Metrics-Bin", "ENDPOINT-LOAD-METRICS-JSON"])
def test_an_application_that_reports_by_itself_is_left_to_it(load, name):
    def application(environ, start_response):
        start_response("200 OK", [(name, "x"), ("A", "b")])
        return []

    server = Server(wsgi(application, load=load))
    server.ask().close()
    assert server.headers == [(name, "x"), ("A", "b")]


def test_of_several_reports_of_its_own_the_first_one_stays(load):
    def application(environ, start_response):
        start_response("200 OK", [("A", "b"), (report.FIELD, "x"), ("Endpoint-Load-Metrics", "y"), ("A", "c")])
        return []

    server = Server(wsgi(application, load=load))
    server.ask().close()
    assert server.headers == [("A", "b"), (report.FIELD, "x"), ("A", "c")]


def test_one_that_is_wrapped_twice_reports_once(load):
    server = Server(wsgi(wsgi(hello, load=load)))
    server.ask().close()
    assert len(server.reports()) == 1


def test_wsgirefs_validator_finds_nothing_on_either_side(load):
    environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ["wsgi.multithread"] = True
    answer = validator(wsgi(validator(hello), load=load))(environ, lambda status, headers, exc_info=None: print)
    assert list(answer) == [b"hello"]
    answer.close()
    assert seen(load) == (0, 0)


def filed(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](environ["file"])


class File:
    closed = 0

    def __init__(self):
        self.left = [b"abc"]

    def read(self, size):
        return self.left.pop() if self.left else b""

    def close(self):
        self.closed += 1


def test_a_file_stays_what_the_server_sends_by_itself_and_ends_when_it_is_closed(load):
    file = File()
    answer = Server(wsgi(filed, load=load)).ask(**{"wsgi.file_wrapper": PlainFileWrapper, "file": file})
    assert isinstance(answer, PlainFileWrapper)
    assert seen(load) == (1, 0)
    answer.close()
    assert (file.closed, seen(load)) == (1, (0, 0))


def test_a_file_that_nobody_closes_ends_when_it_is_forgotten(load):
    answer = Server(wsgi(filed, load=load)).ask(**{"wsgi.file_wrapper": PlainFileWrapper, "file": File()})
    del answer
    gc.collect()
    assert seen(load) == (0, 0)


class Slotted:
    __slots__ = ("close", "file")

    def __init__(self, file):
        self.file = file

    def __iter__(self):
        return iter([self.file.read(1)])

    def __setattr__(self, name, value):
        if name == "close":
            raise AttributeError(name)
        super().__setattr__(name, value)


def test_a_file_whose_close_cannot_be_another_one_is_sent_piece_by_piece(load):
    answer = Server(wsgi(filed, load=load)).ask(**{"wsgi.file_wrapper": Slotted, "file": File()})
    assert list(answer) == [b"abc"]
    answer.close()
    assert seen(load) == (0, 0)


def test_a_file_wrapper_that_is_a_function_is_one_too(load):
    """uWSGI has such a one."""
    wrapper: type[FileWrapper] = lambda file: iter(file.left)  # noqa: E731
    answer = Server(wsgi(filed, load=load)).ask(**{"wsgi.file_wrapper": wrapper, "file": File()})
    assert list(answer) == [b"abc"]
    answer.close()
    assert seen(load) == (0, 0)


# What waited


@pytest.mark.parametrize(
    ("said", "waited_s"),
    [
        (f"t={NOW - 2}", 2.0),
        (f"{NOW - 2:.3f}", 2.0),  # nginx: t=${msec}
        (f"t={NOW * 1e3 - 2e3:.0f}", 2.0),  # Heroku, without t=
        (f"{NOW * 1e6 - 2e6:.0f}", 2.0),  # Apache: t=%t
        (f"t={NOW * 1e9 - 2e9:.0f}", 2.0),
        (f" t={NOW - 2} , t={NOW - 1}", 2.0),
        (f"{NOW + 3}", 0.0),
        ("0", -1.0),
        (f"{NOW - 86400}", -1.0),
        (f"{NOW + 86400}", -1.0),
        ("", -1.0),
        ("t=", -1.0),
        ("-5", -1.0),
        ("nan", -1.0),
        ("inf", -1.0),
        ("1e9", -1.0),
        ("9" * 21, -1.0),
        ("\u0661", -1.0),
    ],
)
def test_when_a_request_came_to_the_proxy_is_read_as_others_read_it(said, waited_s):
    assert report._waited_s(said, NOW) == pytest.approx(waited_s, abs=1e-3)


def test_those_that_waited_are_counted_by_how_long(load, clock):
    """Little's law: ten a second that wait two seconds are twenty that wait."""
    server = Server(wsgi(hello, queue_times=True, load=load))
    for _ in range(1000):
        clock.now += 0.1
        said = server.said(HTTP_X_REQUEST_START=f"t={NOW - 2}")
    assert said[WAITING] == pytest.approx(20, rel=0.01)
    clock.now += 100
    assert server.said()[WAITING] == pytest.approx(0, abs=0.01)


def test_x_queue_start_is_read_before_x_request_start(load):
    server = Server(wsgi(hello, queue_times=True, load=load))
    said = server.said(HTTP_X_QUEUE_START=f"t={NOW - 1}", HTTP_X_REQUEST_START=f"t={NOW - 9}")
    assert said[WAITING] == pytest.approx(1 / report.WAITED_S)


@pytest.mark.parametrize("queue_times", [False, True])
def test_where_nobody_says_when_nothing_is_said_of_waiting(load, queue_times):
    server = Server(wsgi(hello, queue_times=queue_times, load=load))
    assert WAITING not in server.said(HTTP_X_REQUEST_START="soon")


def test_a_client_is_not_believed_unless_that_was_asked_for(load):
    assert WAITING not in Server(wsgi(hello, load=load)).said(HTTP_X_REQUEST_START=f"t={NOW - 9}")


# What the application adds


def test_what_the_application_says_is_added_and_wins(load):
    said = {"cpu_utilization": 0.5, "num_requests_waiting": 7, "named_metrics.depth": 3.0, UTILIZATION: 0.75}
    server = Server(wsgi(hello, capacity=1, metrics=lambda: said, load=load))
    assert server.said() == {
        UTILIZATION: 0.75,
        RUNNING: 1,
        "cpu_utilization": 0.5,
        WAITING: 7,
        "named_metrics.depth": 3,
    }


@pytest.mark.parametrize(
    ("number", "written"), [(0, 0), (-0.0, 0), (1e-9, 1e-9), (1 / 3, 0.333333333), (123456.0, 123456), (1e18, 1e18)]
)
def test_a_number_is_read_as_it_was_said(load, number, written):
    server = Server(wsgi(hello, metrics=lambda: {"a": number}, load=load))
    assert server.said()["named_metrics.a"] == written
    assert server.said(HTTP_ENDPOINT_LOAD_METRICS_FORMAT="json")["named_metrics.a"] == written


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"a": nan}, "a is nan, and a load is a finite number, not negative"),
        ({"a": inf}, "a is inf, and"),
        ({"eps": -1}, "eps is -1, and"),
        ({"a": "many"}, "could not convert string to float: 'many'"),
        ({"a": None}, "TypeError: "),
        ({"a b": 1}, "'a b' is no name of a metric: visible characters, and none of , : ="),
        ({"a\r\nSet-Cookie": 1}, "is no name of a metric"),
        ({"a=": 1}, "is no name"),
        ({"": 1}, "is no name"),
        ({"named_metrics.": 1}, "is no name"),
        ({5: 1}, "AttributeError: "),
        (None, "AttributeError: "),
        ({f"metric{number}": number for number in range(400)}, "bytes, and no more than 4096 are read"),
    ],
)
def test_what_is_wrong_is_left_out_and_said_once(load, caplog, said, complaint):
    wrong = [True]
    server = Server(wsgi(hello, metrics=lambda: said if wrong[0] else {"a": 1}, load=load))
    with caplog.at_level(logging.WARNING, "twisted_lb.report"):
        assert [server.said() for _ in range(3)] == [{RUNNING: 1}] * 3
        assert len(caplog.messages) == 1
        assert complaint in caplog.messages[0]
        assert "left out of reports" in caplog.messages[0]
        wrong[0] = False
        assert "named_metrics.a" in server.said()
        wrong[0] = True
        server.said()
        assert len(caplog.messages) == 2  # it was right in between


def test_metrics_that_raise_break_no_answer(load, caplog):
    def raising():
        raise ZeroDivisionError("by zero")

    server = Server(wsgi(hello, metrics=raising, load=load))
    with caplog.at_level(logging.WARNING, "twisted_lb.report"):
        assert server.said() == {RUNNING: 1}
    assert "ZeroDivisionError: by zero" in caplog.messages[0]
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, "8"])
def test_a_capacity_is_a_number_of_requests(capacity):
    with pytest.raises(ValueError, match=r"^capacity should be a whole number of requests, 1 or more, not "):
        wsgi(hello, capacity=capacity)


def test_what_cannot_be_called_is_refused_where_it_is_given():
    with pytest.raises(TypeError, match=r"^the application should be callable, and 'app' is not$"):
        Wsgi("app")
    with pytest.raises(TypeError, match=r"^metrics should be callable, and {} is not$"):
        wsgi(hello, metrics={})


# Where it runs


PROBE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("twisted_lb", "report"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
from MODULE import asgi, wsgi
application = wsgi(lambda environ, start_response: start_response("200 OK", []) or [])
answer = application({"wsgi.multithread": False}, lambda *words: print(words))
answer.close()
print(sorted(name for name in sys.modules if name.startswith("twisted_lb")))
"""


def run(text, **options):
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_needs_nothing_but_the_standard_library():
    lines = run(PROBE.replace("MODULE", "twisted_lb.report"), cwd=SOURCE.parent.parent)
    assert "endpoint-load-metrics" in lines[0]
    assert lines[1] == "['twisted_lb', 'twisted_lb.report']"


def test_it_may_be_copied(tmp_path):
    (tmp_path / "report.py").write_bytes(SOURCE.read_bytes())
    here = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"  # whether or not Python looks where it is
    lines = run(here + PROBE.replace("MODULE", "report"))
    assert "endpoint-load-metrics" in lines[0]
    assert lines[1] == "[]"


def test_its_grammar_is_that_of_python_3_9():
    ast.parse(SOURCE.read_text(), feature_version=(3, 9))
