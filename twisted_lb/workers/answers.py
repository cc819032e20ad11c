"""Answers of a worker to questions of its parent, as bytes."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted_lb.answers import explained_json
from twisted_lb.data_plane import DataPlane
from twisted_lb.log_file import LogFile
from twisted_lb.span_export import SpanExport
from twisted_lb.workers.codec import dumped


class Answers:
    """What a worker tells of its data plane."""

    def __init__(self, plane: DataPlane, log_file: LogFile, spans: SpanExport) -> None:
        self._plane: Final = plane
        self._log_file: Final = log_file
        self._spans: Final = spans

    def answer(self, question: str, arguments: Mapping[str, Any]) -> bytes:
        """The answer to the question of this name; KeyError for what is none."""
        answers: dict[str, Callable[..., bytes]] = {"measures": self.measures, "explain": self.explain}
        return answers[question](**arguments)

    def measures(self) -> bytes:
        """Everything that is counted."""
        return dumped(self._plane.measures())

    def explain(self, request_id: str) -> bytes:
        """A request by its id, or null."""
        found = self._plane.explain(request_id)
        return json.dumps(None if found is None else explained_json(found)).encode()
