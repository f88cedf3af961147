"""A server that takes the options of `vllm serve` and answers as vLLM does: like_vllm.py serve DIRECTORY --uds SOCKET …

The prompt decides what it writes, and the model's name how it starts. With a GGUF file in LIKE_VLLM it is llama.cpp's
own server, which speaks the same protocol, that answers.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

parser = argparse.ArgumentParser()
for option in ("serve", "directory"):
    parser.add_argument(option)
for option in ("served-model-name", "uds", "load-format"):
    parser.add_argument(f"--{option}", required=True)
for option in ("tensor-parallel-size", "max-model-len", "max-num-seqs"):
    parser.add_argument(f"--{option}", required=True, type=int)
parser.add_argument("--allowed-media-domains", required=True, choices=["none.invalid"])
parser.add_argument("--gpu-memory-utilization", required=True, choices=["0.9"])
for option in ("no-enable-log-requests", "disable-uvicorn-access-log", "enable-scale-out"):
    parser.add_argument(f"--{option}", action="store_true", required=True)
parser.add_argument("--trust-remote-code", action="store_true")
given = parser.parse_args()
TEXT, USAGE = "one two three", {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
KEY = os.environ["VLLM_API_KEY"]


def main() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.access(os.environ["HOME"], os.W_OK), "it compiles"
    if given.served_model_name == "broken":
        sys.exit("loading\ntorch.OutOfMemoryError: CUDA out of memory")
    worker = subprocess.Popen(["sleep", "600"])  # as vLLM has processes of its own
    if given.served_model_name == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: (worker.kill(), os._exit(0)))
    if gguf := os.environ.get("LIKE_VLLM"):
        by_llama(gguf)
    print("serving", given.directory, flush=True)
    Server(given.uds, Handler).serve_forever()


def by_llama(gguf: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.hostnames, params.api_keys = [given.uds], [KEY]
    params.n_parallel, params.n_ctx = given.max_num_seqs, given.max_num_seqs * given.max_model_len
    params.n_gpu_layers = params.verbosity = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    while server:
        time.sleep(3600)


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._whole(200, {"version": "0.0"} if self.path == "/version" else {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = asked["prompt"] if self.path == "/v1/completions" else asked["messages"][-1]["content"]
        if self.headers["authorization"] != f"Bearer {KEY}":
            self._error(401, "Unauthorized")
        elif asked["model"] != given.served_model_name:
            self._error(404, "no such model")
        elif prompt == "wrong":
            self._error(400, "Conversation roles must alternate")
        elif prompt == "too long":
            self._error(400, "You passed 9 input tokens. However, the model's context length is only 8 tokens")
        elif prompt == "failing":
            self._error(500, "hunter2")
        elif asked.get("stream"):
            assert asked["stream_options"]["include_usage"] is True
            self._stream(prompt)
        else:
            if prompt == "slow":
                time.sleep(1)
            choice = {"text": TEXT} if self.path == "/v1/completions" else {"message": {"content": TEXT}}
            self._whole(200, {"choices": [{"index": 0, **choice, "finish_reason": "stop"}], "usage": USAGE})

    def _stream(self, prompt: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self._event({"choices": [self._choice("")]})
            self._chunk(b": still here\n\n")
            for word in ("one", " two", " three"):
                self._event({"choices": [self._choice(word)], "usage": None})
            if prompt == "die":
                print("Engine core died", flush=True)
                os._exit(3)
            if prompt == "half":
                self.close_connection = True
                return
            while prompt == "for ever" and not time.sleep(0.01):
                self._event({"choices": [self._choice(" more")]})
        except ConnectionError:
            print("left", flush=True)
            return
        self._event({"choices": [self._choice("", "stop")]})
        self._event({"choices": [], "usage": USAGE})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _choice(self, text: str, reason: str | None = None) -> dict[str, Any]:
        choice = {"text": text} if self.path == "/v1/completions" else {"delta": {"content": text}}
        return {"index": 0, **choice, "finish_reason": reason}

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _error(self, status: int, message: str) -> None:
        self._whole(status, {"error": {"message": message, "type": "x", "param": None, "code": status}})

    def _whole(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


main()
