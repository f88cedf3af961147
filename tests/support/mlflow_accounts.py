"""An MLflow server of role mlflow, as it is declared and asked on its host."""

import json
from typing import Any

from rackwright.schema.secret import derive_value
from tests.support.lab import Lab

URL = "https://127.0.0.1:5000/api/2.0/mlflow"


def account(name: str) -> dict[str, Any]:
    return {"name": name, "password": {"secret": f"mlflow_{name}"}}


def ask(lab: Lab, host: str, name: str, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Return status and answer of a request that *name* makes on *host*, trusting its certificate alone."""
    script = f"""
        cat > /run/ask.py <<'END'
import base64, json, ssl, sys, urllib.error, urllib.request
name, password, method, url, body = json.load(sys.stdin)
trusted = ssl.create_default_context(cafile="/etc/rackwright/mlflow/tls.crt")
who = base64.b64encode((name + ":" + password).encode()).decode()
head = {{"Authorization": "Basic " + who, "Content-Type": "application/json"}}
asked = urllib.request.Request(url, json.dumps(body).encode() if body else None, head, method=method)
try:
    with urllib.request.urlopen(asked, context=trusted) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
END
        python3 /run/ask.py <<'END'
{json.dumps([name, derive_value(f"mlflow_{name}"), method, f"{URL}/{path}", body])}
END
    """
    status, output = json.loads(lab.ssh(host, script))
    return status, json.loads(output) if output.startswith("{") else output
