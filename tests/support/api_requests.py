"""Requests to the API of Kubernetes in the name of an account, without a process for each of them."""

import http.client
import json
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rackwright.kinds.cluster.quantity import Object

DRY = "?dryRun=All"


class ApiRequests:
    """One connection to an API, with the rights of an administrator, who may act as any other account."""

    def __init__(self, kubeconfig: Path, certificate: tuple[Path, Path] | None = None) -> None:
        """
        Args:
            certificate: The files of the certificate of another account and of its key, which then asks itself.
        """
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        if certificate:
            context.load_cert_chain(*certificate)
            self._headers = {}
        self._connection = http.client.HTTPSConnection(urlsplit(cluster["server"]).netloc, context=context)

    def ask(self, verb: str, path: str, body: Object | None = None, account: Iterable[str] = ()) -> tuple[int, Any]:
        """Return the status of the answer and its content.

        Args:
            account: The account as options of kubectl, such as ``--as=NAME`` and ``--as-group=NAME``.
        """
        self._connection.putrequest(verb, path)
        kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        for name, value in {**self._headers, "Content-Type": kind}.items():
            self._connection.putheader(name, value)
        for each in account:
            option, _, value = each.partition("=")
            self._connection.putheader({"--as": "Impersonate-User", "--as-group": "Impersonate-Group"}[option], value)
        data = b"" if body is None else json.dumps(body).encode()
        self._connection.putheader("Content-Length", str(len(data)))
        self._connection.endheaders(data)
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else text.decode()

    def create(self, item: Object, account: Iterable[str] = (), dry: bool = True) -> str:
        """Try to make *item*, and return an empty text, or the refusal of the API."""
        status, answer = self.ask("POST", collection(item) + (DRY if dry else ""), item, account)
        return "" if status in (200, 201) else f"{status}: {answer['message']}"


def collection(item: Object) -> str:
    """Return the path of all objects of the kind of *item*, in its namespace if it has one."""
    version, namespace = item["apiVersion"], item["metadata"].get("namespace")
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = f"{item['kind'].lower()}s"
    plural = {"networkpolicys": "networkpolicies", "ingresss": "ingresses", "endpointss": "endpoints"}.get(
        plural, plural
    )
    return f"{base}/namespaces/{namespace}/{plural}" if namespace else f"{base}/{plural}"
