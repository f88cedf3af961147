"""A stand-in for an MLflow server, which records the requests of a tracker and can be unreachable."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


class Stub:
    """On one port of the loopback interface; *status* other than 200 is all it then answers."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.location = ""
        """The address that a redirect names."""
        self.heads: list[dict[str, str]] = []
        """The headers of every request."""
        self.hold = threading.Event()
        """Event that is set while the server answers; while it is cleared, clients wait."""
        self.hold.set()
        stub = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub.heads.append(dict(self.headers))
                self._answer({"experiment": {"experiment_id": "7"}})

            def do_POST(self) -> None:
                stub.heads.append(dict(self.headers))
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                what = urlsplit(self.path).path.partition("/mlflow/")[2]
                if stub.status == 200:
                    stub.posted.append((what, body))
                self._answer({"run": {"info": {"run_id": "r1", "experiment_id": "7"}}})

            def _answer(self, content: dict[str, Any]) -> None:
                stub.hold.wait()
                text = json.dumps(content if stub.status == 200 else {"message": "not now"}).encode()
                self.send_response(stub.status)
                if stub.location:
                    self.send_header("Location", stub.location)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.handle_error = lambda *_: None  # somebody did not wait for the answer
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def metrics(self) -> list[tuple[str, float, int]]:
        """Return all recorded figures: name, value, step."""
        batches = [body.get("metrics", []) for what, body in self.posted if what == "runs/log-batch"]
        return [(each["key"], each["value"], each["step"]) for batch in batches for each in batch]

    def statuses(self) -> list[str]:
        return [body["status"] for what, body in self.posted if what == "runs/update"]
