"""In which cases the twisted.web client side does otherwise than the engine, and who decides that. Data only.

twisted.web has read a request before we see it. What it took to be one request reaches the backend in our words.
"""

UNFOLDED = "twisted.web unfolds: the backend gets one line"
WAITS = "twisted.web waits for more; nothing reaches us"
REFUSES = "twisted.web refuses it itself"
DECODED = "twisted.web hands over a body without its chunks; the backend gets a Content-Length"
INTERIM = "twisted.web cannot say it to its client"
OF_TWISTED_WEB = {
    "folded line": ("200; passed on", UNFOLDED),
    "bare LF ends a line": ("no answer", WAITS),
    "bare CR ends a line": ("no answer", WAITS),
    "not HTTP: a TLS hello": ("no answer", WAITS),
    "OPTIONS *": ("200", "twisted.web answers it itself"),
    "GET *": ("405", REFUSES),
    "HTTP/2.0 in the request line": ("400, closed", REFUSES),
    "HTTP/1.2": ("400, closed", REFUSES),
    "head of 40 kB": ("400, closed", REFUSES),
    "HTTP/1.0 with keep-alive": ("200", "twisted.web keeps no connection of HTTP/1.0"),
    "Content-Length of 20 digits": ("no answer", "twisted.web counts without a bound, and waits for all of it"),
    "Transfer-Encoding: gzip, chunked": ("400, closed", REFUSES),
    "bare LF where the trailers end": ("no answer", WAITS),
    "Transfer-Encoding: Chunked": ("200; not passed on", DECODED),
    "chunk size beyond 64 bits": ("no answer", "twisted.web counts without a bound, and waits for all of it"),
    "chunk size with 20 zeros in front": ("200", DECODED),
    "malformed chunk extension": ("200", DECODED),
    "chunk extension of 300 bytes": ("200", DECODED),
    "trailers of a request": ("200; not passed on", DECODED),
    "framing in the trailers": ("200", DECODED),
    "trailers of 10 kB": ("200; not passed on", DECODED),
    "103 for HTTP/1.1": ("200; no “103 early”", INTERIM),
    "103 with a length": ("200; no “length: 4”", INTERIM),
    "trailers of an answer": ("200; no “sum: 1”", INTERIM),
    "Upgrade: websocket": ("502; not passed on", "never offered to the backend, which switches here all the same"),
    "request behind an Upgrade that fails": ("2 times 200", "never offered, so nothing is a tunnel's"),
    "refused expectation with its body there": ("100 417", "twisted.web says 100 itself, before anybody is asked"),
    "early answer to an upload": ("no answer", "twisted.web waits for the whole upload"),
}
