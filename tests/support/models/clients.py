"""Clients that ask one address until they are stopped, and count their answers. Standard library only.

python3 clients.py HOST PORT MODEL CLIENTS TOLD.json      SIGTERM ends it
"""

import http.client
import json
import signal
import sys
import threading
import time
from pathlib import Path

BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8, 8], "data": [float(n % 16) for n in range(64)]}]}
).encode()
KEY = Path("/root/key")


def main(host: str, port: str, model: str, clients: str, path: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    headers = {"authorization": f"Bearer {KEY.read_text()}", "content-type": "application/json"}
    lock, answered, lost = threading.Lock(), {}, []

    def client() -> None:
        connection = None
        while not stop.is_set():
            try:
                connection = connection or http.client.HTTPConnection(host, int(port), timeout=120)
                connection.request("POST", f"/v2/models/{model}/infer", BODY, headers)
                answer = connection.getresponse()
                report = json.loads(answer.read())
                version = report.get("model_version", "none")
                with lock:
                    if answer.status == 200:
                        answered[version] = answered.get(version, 0) + 1
                    else:
                        lost.append([time.time(), f"{answer.status} {report}"])
            except (OSError, ValueError, http.client.HTTPException) as error:
                with lock:
                    lost.append([time.time(), repr(error)])
                connection = None

    threads = [threading.Thread(target=client) for _ in range(int(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Path(path).write_text(json.dumps({"answered": answered, "lost": lost}))


if __name__ == "__main__":
    main(*sys.argv[1:])
