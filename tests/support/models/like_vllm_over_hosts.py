"""A command that takes the options of `vllm serve` over several hosts: the leader answers, a worker only runs.

A prompt "hang" hangs this request and all later ones, as those of a replica with a lost host do.
"""

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

parser = argparse.ArgumentParser()
parser.add_argument("--uds")
parser.add_argument("--headless", action="store_true")
for option in ("--node-rank", "--nnodes"):
    parser.add_argument(option, type=int, required=True)
parser.add_argument("--master-addr", required=True)
given, _ = parser.parse_known_args()
hanging = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "host"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer({"version": "0.0"} if self.path == "/version" else {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("prompt") == "hang":
            hanging.set()
        while hanging.is_set():
            time.sleep(0.1)
        self._answer({"choices": []})

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


assert given.headless == (given.node_rank > 0) == (given.uds is None)
print(f"rank {given.node_rank} of {given.nnodes} at {os.environ['VLLM_HOST_IP']}", file=sys.stderr, flush=True)
if given.headless:
    threading.Event().wait()
else:
    Server(given.uds, Handler).serve_forever()
