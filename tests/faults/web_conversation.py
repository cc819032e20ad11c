"""A client's connection to twisted.web, judged: what a resource cannot do, and what twisted.web does by itself."""

from faults.attempts import name_of
from faults.conversation import Conversation
from faults.reader import CHUNKED, Message
from faults.tape import SAID, TOOK


class WebConversation(Conversation):
    """An upload arrives whole before anybody is asked; nothing interim, no trailers and no switch of protocols come back; a
    client of HTTP/1.0 asks once, one that half-closes has left, and one that is too slow is hung up on without a word.
    """

    follows = True
    own_statuses = frozenset({400})

    @property
    def _cut(self) -> bool:
        """A stop takes back what still runs: a refusal where nothing was said, else what there is of an answer. So does the end
        of the time that a request had at a backend which is gone.
        """
        return any(record.ended_by == "CANCELLED" and self._last(record) for record in self._records)

    def _excused(self, index: int, request: Message) -> bool:
        hung_up = not request.complete and self._said is not None and self._said.what in SAID
        return hung_up or super()._excused(index, request)

    def _must_finish(self, request: Message) -> bool:
        return False

    def _judge_one(self, index: int, request: Message, answer: Message | None) -> None:
        super()._judge_one(index, request, answer)
        if request.head_ends_at is not None:
            self._judge_upload(request)
            if answer is not None and answer.head_ends_at is not None:
                self._judge_spelling(request, answer)

    def _judge_upload(self, request: Message) -> None:
        name = name_of(request)
        attempts = self._oracle.backends.attempts.get(name, [])
        if request.ends_at is None:
            if attempts or name in self._oracle.records:
                self.complain(f"{name} was begun before it was here")
            return
        here = self._tape.entry_of(TOOK, request.ends_at - 1)
        assert here is not None
        for attempt in attempts:
            if attempt.at < here.at:
                self.complain(f"{name} was begun before it was here")
            asked = attempt.request
            if asked is not None and (asked.framing == CHUNKED or asked.get("upgrade")):
                self.complain(f"{attempt.backend} was asked {asked.fields} for {name}")

    def _judge_spelling(self, request: Message, answer: Message) -> None:
        name = name_of(request)
        expects = request.version == 11 and bool(request.get("expect"))
        if answer.interim not in ([], [100] if expects else []) or answer.status == 101:
            self.complain(f"{name} got {answer.interim} before {answer}")
        refused = answer.status == 400 and not answer.fields
        if answer.version != request.version and not refused:
            self.complain(f"{name} got {answer} in version {answer.version}")
        if (request.version == 10 or request.closes) and not answer.closes and not refused:
            self.complain(f"{name} got {answer}, and may ask once more")
        if answer.complete and answer.framing == CHUNKED:
            assert answer.ends_at is not None
            if not self._raw[: answer.ends_at].endswith(b"\r\n0\r\n\r\n"):
                self.complain(f"{name} got {answer} with trailers")
