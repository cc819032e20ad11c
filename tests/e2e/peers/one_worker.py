"""An application for gunicorn that takes TAKES_S for a page and says STATUS; each request leaves a byte in the file ASKED."""

import os
import time

TAKES_S = float(os.environ.get("TAKES_S", "0"))
STATUS = os.environ.get("STATUS", "200 OK")
ASKED = os.environ["ASKED"]


def app(environ, start_response):
    with open(ASKED, "ab", buffering=0) as file:
        file.write(b".")
    time.sleep(TAKES_S)
    start_response(STATUS, [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
