"""The program that transfers files on a host: a store that redirects gets no request, and sends none elsewhere."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rackwright.tiering.onhost import transfer


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_redirect_is_a_failure_and_not_followed(method):
    asked = []

    class Redirecting(BaseHTTPRequestHandler):
        def answer(self):
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_PUT = answer

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        send = transfer._sender(None)
        with pytest.raises(transfer.TransferFailed, match="status 302"):
            send(method, f"http://127.0.0.1:{server.server_port}/object", b"" if method == "PUT" else None, bytes, 60)
        server.shutdown()

    assert asked == ["/object"]
