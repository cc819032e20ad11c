"""Answers of a worker to questions of its parent, as bytes."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted_lb.answers import decision_json, explained_json, held_json, kind_of, routed_json
from twisted_lb.core.measures import Beside
from twisted_lb.data_plane import DataPlane
from twisted_lb.log_file import LogFile
from twisted_lb.loop_lag import LoopLag
from twisted_lb.span_export import SpanExport
from twisted_lb.workers.codec import dumped


class Answers:
    """What a worker tells of its data plane, and of what it has beside it."""

    def __init__(self, plane: DataPlane, log_file: LogFile, spans: SpanExport, lag: LoopLag) -> None:
        self._plane: Final = plane
        self._log_file: Final = log_file
        self._spans: Final = spans
        self._lag: Final = lag

    def answer(self, question: str, arguments: Mapping[str, Any]) -> bytes:
        """The answer to the question of this name; KeyError for what is none."""
        answers: dict[str, Callable[..., bytes]] = {
            "measures": self.measures,
            "explain": self.explain,
            "explained": self.explained,
            "explain_next": self.explain_next,
            "route": self.route,
        }
        return answers[question](**arguments)

    def measures(self, exemplars: bool) -> bytes:
        """Everything that is counted, with exemplars if they are wanted."""
        memory = self._plane.runtime.memory
        beside = Beside(
            (
                ("invariant_violations_total", self._plane.self_check.violations),
                ("log_dropped_total", self._log_file.dropped),
                ("buffered_bytes", memory.taken),
                ("buffer_waits_total", memory.waits),
                ("buffer_denied_total", memory.denied),
                ("spans_sent_total", self._spans.sent),
                ("spans_dropped_total", self._spans.dropped),
            ),
            self._lag.lag.reading(),
        )
        return dumped((self._plane.measures(exemplars=exemplars), beside))

    def explain(self, request_id: str) -> bytes:
        """A request by its id, or null."""
        found = self._plane.explain(request_id)
        return json.dumps(None if found is None else explained_json(found)).encode()

    def explained(self, kind: str, count: int, decisions: bool) -> bytes:
        """The last requests of a kind, and how many are held."""
        told = self._plane.explained(kind_of(kind), count, decisions=decisions)
        return json.dumps(held_json(told, self._plane.questions.held())).encode()

    def explain_next(self, pool: str) -> bytes:
        """What the next claim in a pool would do, or null where there is no such pool."""
        found = decision_json(self._plane.explain_next(pool)) if pool in self._plane.clusters else None
        return json.dumps(found).encode()

    def route(
        self, method: str, url: str, headers: Sequence[Sequence[str]], client: str, listener: str | None
    ) -> bytes:
        """Where a request would go that came here."""
        given = [(name, value) for name, value in headers]
        return json.dumps(routed_json(self._plane.route(method, url, given, client, listener))).encode()
