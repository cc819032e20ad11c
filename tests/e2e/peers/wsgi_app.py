"""A WSGI application: says who asked for what, echoes bodies, streams."""


def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read() if environ["REQUEST_METHOD"] in ("POST", "PUT") else b""
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (b"%d," % number for number in range(1000))
    answer = body or b"gunicorn %s %s" % (environ["HTTP_X_FORWARDED_FOR"].encode(), environ["HTTP_HOST"].encode())
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
