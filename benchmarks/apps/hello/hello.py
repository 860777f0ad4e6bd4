"""The least that a WSGI application can do."""

BODY = b"Hello, world!\n"


def application(_environ, start_response):
    """Answer every request alike."""
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
    start_response("200 OK", headers)
    return [BODY]
