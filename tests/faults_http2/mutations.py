"""HTTP/2 broken on purpose, each time in one place: what its fault network has to notice. See `faults.mutating`, which applies them."""

import sys

from faults.mutating import Change, Mutation, once, tell_of_each

MUTATIONS = (
    once("a body that was cut has an end", "Http2Stream.abort", "self.give_up(INTERNAL_ERROR)", 'self.finish(b"")'),
    once("credit is given while nobody takes the body", "Http2Stream._give_credit", "and not self._paused ", ""),
    once("a stream is credited again for what it was credited for", "Http2Stream._give_credit", "self._credit = 0"),
    once("a window is not used up by what waited for it", "Http2Stream.take_turn", "self.window -= size"),
    Mutation(
        "the window of a connection is not used up",
        (
            Change("FrameWriter.take_window", "self.window -= size", "pass"),
            Change("FrameWriter.send_body", "self.window -= size", "pass"),
            Change("FrameWriter.send_answer", "self.window -= size", "pass"),
        ),
    ),
    once("a change of settings changes no window", "Http2._resize_windows", "stream.window += more"),
    once(
        "a reset of the client does not end its request",
        "Http2.reset_received",
        'known.client_left("" if code == CANCEL else f"it was reset with {error_name(code)}")',
    ),
    once("trailers of an answer are lost", "Http2Stream.finish", "self._trailers = trailers"),
    once("trailers of a request are lost", "read_trailers", "lines.append(entry.line)"),
    once("a stream that is over stays a client", "Http2Stream._close", "self._frontend.clients.pop(self, None)"),
    once("a smaller HPACK table is not spoken of", "FrameWriter.send_block", "block = self.before + block"),
    Mutation(
        "a request whose body is shorter than was said is whole",
        (
            Change("Http2Stream.receive_data", " or (ended and self.body_bytes < self._expected)", ""),
            Change("Http2Stream.end_request", "0 <= self.body_bytes < self._expected", "False"),
        ),
    ),
    once(
        "an end is told while nobody takes the body",
        "Http2Stream.end_request",
        "elif self._held is not None or self._paused:",
        "elif self._held is not None:",
    ),
    once(
        "an answer without a body ends with its head",
        "Http2Stream.start",
        "self._head = block  #",
        "if framing == 0:\n                self._writer.send_block(self.number, block, ended=True)\n"
        "                self._answer_ended = True\n                return\n            self._head = block  #",
    ),
    once("what a connection has taken is not credited", "Http2.data_received", "self._uncredited += size"),
    once(
        "who does not take its answer is waited for without end",
        "Http2Stream._timed_out",
        'self.cut(CANCEL, "it does not take its answer")',
    ),
    once("a body that stalls is waited for without end", "Http2Stream._timed_out", 'self.fault(BadMessage(408, "the body stalled"))'),
    once("who drains says nothing to its clients", "Http2.drain", "self._leave()"),
    once("streams behind a GOAWAY are served, and nobody said so", "Http2._left", "goaway(self._last, NO_ERROR)", "goaway(0, NO_ERROR)"),
    once("fields are lost with a CONTINUATION", "FrameReader._continue", "self._block.append(payload)"),
    once("padding is a part of the body", "FrameReader._data", "begin, end = _unpadded(data, begin, end)"),
    once("a POST is sent again", "IDEMPOTENT", 'b"DELETE"', 'b"DELETE", b"POST"'),
    # Backends.
    once(
        "an answer that ends early is whole",
        "Http2Call.ended",
        "if self._got < self._expected:",
        "if False:",
    ),
    once(
        "every reset of a backend says that it has done nothing",
        "Http2Connection.reset_received",
        "code == REFUSED_STREAM and not call.answered",
        "not call.answered",
    ),
    once("an answer goes on while its client takes nothing", "Http2Call.data", "if self._paused:", "if False:"),
    once("a backend's call has the window of another one", "Http2Connection.window_opened", "call.window += more"),
    once(
        "calls below the last of a GOAWAY are made again",
        "Http2Connection.goaway_received",
        "if number > last",
        "",
    ),
    once("trailers of a backend are lost", "Http2Call.trailers_received", "self.ended(trailers)", 'self.ended(b"")'),
)  # fmt: skip


if __name__ == "__main__":
    tell_of_each(MUTATIONS, "faults_http2", sys.argv[1:])
