"""A WSGI application that reads what it is sent, and answers with as much as it is asked for: `/512` is 512 KiB."""


def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    read = len(environ["wsgi.input"].read(length))
    body = b"x" * (1024 * int(environ["PATH_INFO"].strip("/") or 0))
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Read", str(read))])
    return [body]
