"""Answers of a cluster's API: facts with unknown values, or an error of ours; each other exception is a failure."""

import io
import json
import ssl
from typing import Any

from hypothesis import strategies as st

from rackwright.core.diff import diff
from rackwright.endpoints import kubernetes
from rackwright.endpoints.kubernetes_facts import NODES, OBJECTS
from rackwright.errors import EndpointUnreachable
from rackwright.schema.cluster_api import ClusterApi
from tests.support.canned_api import items, node, refusal, usual
from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import mutated_bytes, mutated_data, of_bytes, of_data
from tests.support.recorded_hosts import AT_ENDPOINTS, SHARED, recorded

DECLARED = AT_ENDPOINTS["shared/cluster"]
HOST, TOKEN = "kubernetes:shared", "token-of-an-account"
API = ClusterApi.model_validate({"url": "https://api.example:6443", "token": {"secret": "shared_token"}})
STATUSES = (200, 200, 201, 204, 301, 302, 401, 403, 404, 429, 500, 999)
HEADERS = (
    "Content-Type: text/html", "Content-Type: json", "Location: https://[", "Location: //other.example/\x1b[2J",
    "Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: x", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip", "Connection: close", "X: " + "x" * 70000, "X: " + TOKEN, "No colon", "\u0663: x",
    *("X: y\r\n" * 200,),
)  # fmt: skip
Case = tuple[str, str, Any, int, int]
"""The path of the answer, the sort of its change, the change, the status, and a number that chooses a header."""


def contents() -> dict[str, Any]:
    """Return the right answer to each question, with the objects of teams as they were recorded."""
    answers: dict[str, Any] = {path: answer.content for path, answer in usual().items()}  # type: ignore[union-attr]
    objects = recorded(HOST)["kubernetes_cluster"]["objects"]
    for kind, path in OBJECTS.items():
        found = {name.split("/", 1)[1]: content for name, content in objects.items() if name.startswith(f"{kind}/")}
        answers[path] = items(kind, *(_object(name, content) for name, content in found.items())).content
    answers[NODES] = items("Node", node("gpu-21", rack="c2"), node("gpu-22", rack="c2")).content
    return answers


def _object(name: str, content: dict[str, Any]) -> dict[str, Any]:
    namespace, slash, own = name.rpartition("/")
    return {**content, "metadata": {"name": own, **({"namespace": namespace} if slash else {}), "labels": {"a": "b"}}}


class _Socket:
    """A connected socket: it keeps the path of the last request, and gives the answer of the target to it."""

    def __init__(self, target: "Target") -> None:
        self._target, self._path = target, ""

    def sendall(self, data: bytes) -> None:
        self._path = data.split(b" ", 2)[1].decode().partition("?")[0]

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._target.answer(self._path))

    def close(self) -> None: ...


class _Connection(kubernetes._Connection):
    """The connection of the client, without a network below it."""

    target: "Target"

    def connect(self) -> None:
        self.sock = _Socket(self.target)


class _Client(kubernetes.KubernetesClient):
    target: "Target"

    def _connection(self) -> _Connection:
        connection = _Connection("api.example", 6443, self.target.context, 5, 20)
        connection.target = self.target
        return connection


class Target:
    def __init__(self) -> None:
        self.case: Case = ("", "", "", 200, 0)
        self.contents, self.claims = contents(), DECLARED.kind.claims(DECLARED.spec, SHARED.repository)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client = _Client(HOST, API, TOKEN, "pulumi config set shared_token")
        self.client.target = self

    def answer(self, path: str) -> bytes:
        """Return the bytes of the answer to a question about *path*, changed where the case says so."""
        name, sort, change, status, number = self.case
        content, head = self.contents[path], "Content-Type: application/json"
        if path != name:
            return _http(200, head, _json(content))
        if sort == "data":
            return _http(200, head, _json(mutated_data(content, change)))
        if sort == "status":
            return _http(status, f"{head}\r\n{HEADERS[number % len(HEADERS)]}", _json(refusal(status, TOKEN).content))
        if sort == "body":
            return _http(status, head, mutated_bytes(_json(content), change))
        return mutated_bytes(_http(status, head, _json(content)), change)

    def check(self, case: Case) -> None:
        self.case = case
        try:
            facts = self.client.read()
        except EndpointUnreachable as error:
            assert TOKEN not in str(error)
            return
        differences = diff(self.claims, DECLARED.kind.observe(self.claims, facts))
        assert TOKEN not in str(differences)


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _http(status: int, head: str, body: bytes) -> bytes:
    length = "" if "Length" in head or "Transfer" in head else f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {status} x\r\n{head}\r\n{length}\r\n".encode() + body


def run(count: int, number: int) -> None:
    paths, numbers = st.sampled_from([*contents()]), st.integers(0, 999)

    def of(sort: str, changes: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.tuples(paths, st.just(sort), changes, st.sampled_from(STATUSES), numbers)

    strategy = st.one_of(of("bytes", of_bytes), of("body", of_bytes), of("data", of_data), of("status", st.just(None)))
    cases(count, number, strategy, Target().check)
