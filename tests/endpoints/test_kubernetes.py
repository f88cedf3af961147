"""The reader of a cluster by its API, against a server that answers as one, or wrongly."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.contract import Call, EndpointSource
from rackwright.endpoints import kubernetes, kubernetes_facts, open_endpoints
from rackwright.endpoints.kubernetes import KubernetesClient, connect
from rackwright.endpoints.kubernetes_facts import NODES, OBJECTS
from rackwright.errors import Diagnostic, EndpointUnreachable, StepFailed
from rackwright.facts.facts import Facts
from rackwright.facts.kubernetes import ClusterFacts
from rackwright.facts.probe import kubernetes as probe
from rackwright.facts.view import UnknownFact
from rackwright.stack import Stack
from tests.support.canned_api import Answer, CannedApi, canned_api, items, node, refusal, usual
from tests.support.object_store import certificates
from tests.support.recorded_hosts import SHARED

TOKEN = "token-of-an-account-that-reads"
HTML = {"Content-Type": "text/html"}
SOURCE = EndpointSource("kubernetes", "shared")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CannedApi]:
    with canned_api(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def api(server: CannedApi) -> CannedApi:
    server.answers = usual()
    server.questions.clear()
    return server


def client(api: CannedApi, **more: Any) -> KubernetesClient:
    return KubernetesClient("kubernetes:shared", api.declared, TOKEN, "pulumi config set shared_token", **more)


def cluster(api: CannedApi) -> ClusterFacts:
    found = client(api).read().cluster
    assert found is not None
    return found


def stack_of(api: CannedApi, token: str | None = TOKEN) -> Stack:
    """Return a stack whose cluster has the API *api*."""
    clusters = {"shared": SHARED.fleet.clusters["shared"].model_copy(update={"api": api.declared})}
    stack = replace(SHARED, fleet=SHARED.fleet.model_copy(update={"clusters": clusters}))
    return stack if token is None else stack.with_secrets({"shared_token": token})


def failure(reading: KubernetesClient) -> Diagnostic:
    """Return the error of a reading, in which the token is nowhere."""
    with pytest.raises(EndpointUnreachable) as caught:
        reading.read()
    assert TOKEN not in caught.value.render()
    return caught.value.diagnostic


def quota(namespace: str, name: str = "team") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"hard": {"pods": "10"}}}


def test_the_facts_have_the_form_of_the_probe(api: CannedApi) -> None:
    """
    The views of a control plane read them.
    """
    api.answers[OBJECTS["ResourceQuota"]] = items("ResourceQuota", quota("vision"), quota("kube-system"))
    found = cluster(api)

    assert (found.version, found.names) == ("v1.37.2", ("gpu-21",))
    one = found.node("gpu-21")
    assert one is not None and one.ready and one.schedulable and one.labels == {"rack": "c2"}
    assert found.objects == {"vision/ResourceQuota/team": {"spec": {"hard": {"pods": "10"}}}}
    assert {authorization for _, authorization in api.questions} == {f"Bearer {TOKEN}"}


def test_the_lists_are_those_of_the_probe() -> None:
    """
    Another kind of objects in one of both would be compared on some clusters only.
    """
    assert {path.rpartition("/")[2] for path in OBJECTS.values()} == {*probe.OBJECTS}


def test_a_part_of_a_host_is_unknown_in_the_facts_of_a_cluster(api: CannedApi) -> None:
    """
    No kind can take the facts of an endpoint for those of a host.
    """
    with pytest.raises(UnknownFact):
        _ = client(api).read().identity


def test_all_pages_of_a_list_are_read(api: CannedApi) -> None:
    """
    A word with which a page continues is sent back as it came.
    """
    pages = {
        "": items("Node", node("a"), more="x/y+z=&limit"),
        "x/y+z=&limit": items("Node", node("b"), node("c"), more="last"),
        "last": items("Node", node("d")),
    }
    api.answers[NODES] = lambda query: pages[query.get("continue", "")]

    assert cluster(api).names == ("a", "b", "c", "d")
    assert all("limit=200" in target for target, _ in api.questions if target.startswith(NODES))


def test_two_objects_with_one_name_are_unknown(api: CannedApi) -> None:
    api.answers[NODES] = items("Node", node("a"), node("b"), node("a"))

    with pytest.raises(UnknownFact, match="names an object twice"):
        _ = cluster(api).names


def test_a_list_without_an_end_is_unknown(api: CannedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_facts, "PAGES_MAX", 3)
    api.answers[NODES] = lambda query: items("Node", node(f"n{len(api.questions)}"), more="again")

    with pytest.raises(UnknownFact, match="more than 3 pages"):
        _ = cluster(api).names


def test_a_list_that_ends_too_early_is_unknown(api: CannedApi) -> None:
    """
    The API forgets a list that was read too slowly; half of it is not the list.
    """
    pages = {
        "": items("Node", node("a"), more="old"),
        "old": refusal(410, "The provided continue parameter is too old"),
    }
    api.answers[NODES] = lambda query: pages[query.get("continue", "")]

    with pytest.raises(UnknownFact, match="410 Gone: The provided continue parameter is too old"):
        _ = cluster(api).names


@pytest.mark.parametrize("content", [{"metadata": {}, "items": None}, {"metadata": {}, "items": []}])
def test_an_empty_list_is_empty(api: CannedApi, content: Any) -> None:
    api.answers[NODES] = Answer(content)

    assert cluster(api).names == ()


def test_a_node_that_has_reported_nothing_is_not_ready(api: CannedApi) -> None:
    """
    The other nodes are known all the same.
    """
    silent = node("gpu-22")
    del silent["status"]["conditions"]
    api.answers[NODES] = items("Node", node("gpu-21"), silent)
    found = cluster(api)

    assert [each.ready for name in found.names if (each := found.node(name))] == [True, False]


def test_a_kind_that_may_not_be_listed_is_unknown_and_not_empty(api: CannedApi) -> None:
    """
    The objects of other kinds are known. The reason names the right that the account lacks.
    """
    reason = 'roles.rbac.authorization.k8s.io is forbidden: User "reader" cannot list resource "roles"'
    api.answers[OBJECTS["Role"]] = refusal(403, reason)
    api.answers[OBJECTS["ResourceQuota"]] = items("ResourceQuota", quota("vision"))
    found = cluster(api)

    assert found.object("vision/ResourceQuota/team") and found.object("vision/LimitRange/team") is None
    for ask in (lambda: found.object("vision/Role/viewer"), found.require_all_objects):
        with pytest.raises(UnknownFact, match="403 Forbidden: roles.*cannot list"):
            ask()


@pytest.mark.parametrize("path", ["/version", NODES], ids=["at first", "on the way"])
def test_a_refused_token_is_named(api: CannedApi, path: str) -> None:
    """
    A token may end while the cluster is read: then nothing of the reading counts.
    """
    api.answers[path] = refusal(401, "Unauthorized")
    found = failure(client(api))

    assert found.problem == "the API refuses the token: 401 Unauthorized"
    assert "pulumi config set shared_token" in found.help


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(b"slow down", 429, {"Content-Type": "text/plain"}), "the API answers 429 Too Many Requests"),
        (Answer(b"no etcd", 503, {"Content-Type": "text/plain"}), "the API answers 503 Service Unavailable"),
        (Answer(b"", 799), "the API answers 799"),
        (Answer(b"{"), "the data is no JSON"),
        (Answer(b"[" * 100_000), "the data has more than 64 levels"),
        (Answer(b"\xff\xfe"), "the data is not in UTF-8"),
        (Answer({"metadata": {}}), "the answer has another form than the API of Kubernetes"),
        (Answer([1]), "the answer has another form than the API of Kubernetes"),
        (Answer({"metadata": None, "items": [1]}), "the answer has another form than the API of Kubernetes"),
    ],
    ids=[
        *("too many", "no etcd", "an unknown status", "cut", "deep", "no text", "no items"),
        *("a list alone", "a number as an item"),
    ],
)
def test_an_answer_that_cannot_be_used_is_unknown(api: CannedApi, answer: Answer, reason: str) -> None:
    """
    The rest of the cluster is known.
    """
    api.answers[NODES] = answer
    found = cluster(api)

    assert found.version == "v1.37.2" and found.objects == {}
    with pytest.raises(UnknownFact, match=reason):
        _ = found.names


def test_a_node_that_says_something_odd_is_unknown_alone(api: CannedApi) -> None:
    api.answers[NODES] = items("Node", {"metadata": {"name": "a"}}, node("b"))
    found = cluster(api)

    one = found.node("b")
    assert found.names == ("a", "b") and one is not None and one.ready
    with pytest.raises(UnknownFact):
        _ = found.node("a").ready


def test_a_huge_answer_is_not_read_to_its_end(api: CannedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The next questions have a new connection.
    """
    monkeypatch.setattr(kubernetes, "ANSWER_LONGEST", 1 << 20)
    api.answers[NODES] = Answer(b" " * (8 << 20))
    found = cluster(api)

    assert found.version == "v1.37.2" and found.objects == {}
    with pytest.raises(UnknownFact, match="longer than 1 MiB"):
        _ = found.names


def test_a_server_that_sends_page_after_page_ends_the_reading(api: CannedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Each page is within its bound.
    """
    monkeypatch.setattr(kubernetes, "READING_LONGEST", 2 << 20)
    text = "x" * (1 << 19)
    api.answers[NODES] = lambda query: items("Node", node(f"n{len(api.questions)}", text=text), more="again")

    assert failure(client(api)).problem == "all answers together are longer than 2 MiB"
    assert len(api.questions) == 5


def test_a_server_that_keeps_a_question_waiting_ends_the_reading(api: CannedApi) -> None:
    """
    Without etcd the API answers nothing but its version; seven more questions would wait as long.
    """
    over = threading.Event()
    api.answers[NODES] = Answer(write=lambda file: over.wait(60))
    try:
        found = failure(client(api, answer_seconds=0.2))
    finally:
        over.set()

    assert found.problem == "no answer from the API: it took too long"
    assert len(api.questions) == 2


@pytest.mark.parametrize("path", [NODES, OBJECTS["RoleBinding"]], ids=["on the way", "at last"])
def test_a_server_that_sends_a_byte_at_a_time_ends_the_reading(api: CannedApi, path: str) -> None:
    """
    Each part of the answer comes in time, and the whole never does.
    """
    over = threading.Event()

    def drip(file: Any) -> None:
        while not over.wait(0.01):
            file.write(b" ")

    api.answers[path] = Answer(write=drip)
    try:
        found = failure(client(api, reading_seconds=0.5))
    finally:
        over.set()

    assert found.problem == "no answer from the API: all questions took more than 0.5 s"


def test_a_certificate_of_another_authority_ends_the_reading_before_the_token(api: CannedApi, tmp_path: Path) -> None:
    other = api.declared.model_copy(update={"ca": certificates(tmp_path, ["127.0.0.1"])["authority.crt"]})
    found = failure(KubernetesClient("kubernetes:shared", other, TOKEN, ""))

    assert found.problem.startswith("the certificate of the API is not valid: ")
    assert api.questions == []


def test_a_certificate_of_another_name_ends_the_reading_before_the_token(api: CannedApi) -> None:
    other = api.declared.model_copy(update={"url": api.url.replace("127.0.0.1", "localhost")})
    found = failure(KubernetesClient("kubernetes:shared", other, TOKEN, ""))

    assert "Hostname mismatch" in found.problem
    assert api.questions == []


def test_without_an_authority_those_of_this_computer_count(api: CannedApi) -> None:
    own = api.declared.model_copy(update={"ca": None})
    found = failure(KubernetesClient("kubernetes:shared", own, TOKEN, ""))

    assert found.expected == "one that an authority of this computer has signed"
    assert api.questions == []


def test_an_authority_that_is_no_certificate_is_named(api: CannedApi) -> None:
    wrong = api.declared.model_copy(update={"ca": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"})

    assert failure(KubernetesClient("kubernetes:shared", wrong, TOKEN, "")).problem.startswith("ca has no certificate")


def test_a_redirect_is_not_followed(api: CannedApi) -> None:
    """
    The token would go with it. The message names the other server alone.
    """
    place = f"{api.url}/version/elsewhere?session=word"
    api.answers["/version"] = Answer(b"", 302, {"Location": place})
    found = failure(client(api))

    assert found.problem == f"the server sends elsewhere, to 127.0.0.1:{api.port}: 302 Found"
    assert [target for target, _ in api.questions] == ["/version"]


def test_a_page_for_people_is_no_api(api: CannedApi) -> None:
    api.answers["/version"] = Answer(b"<html>Log in", 200, HTML)

    assert failure(client(api)).problem == "what answers is no API of Kubernetes: 200 OK without JSON"


def test_a_path_of_the_address_stands_before_each_question(api: CannedApi) -> None:
    api.answers = {f"/k8s/c-1{path}": answer for path, answer in usual().items()}
    declared = api.declared.model_copy(update={"url": f"{api.url}/k8s/c-1"})

    found = KubernetesClient("kubernetes:shared", declared, TOKEN, "").read().cluster
    assert found is not None and found.names == ("gpu-21",)


def test_a_message_of_the_server_is_short_and_printable_and_without_the_token(api: CannedApi) -> None:
    api.answers[NODES] = refusal(403, f"\x1b[2J{TOKEN}\n" + "x" * 10_000)
    with pytest.raises(UnknownFact) as caught:
        _ = cluster(api).names

    reason = str(caught.value)
    assert TOKEN not in reason and reason.isprintable() and len(reason) < 500


def test_an_endpoint_that_was_not_reached_is_not_tried_again(api: CannedApi) -> None:
    """
    All of its resources would wait as long.
    """
    api.answers["/version"] = refusal(401, "Unauthorized")
    endpoints = open_endpoints(stack_of(api))
    for _ in range(2):
        with pytest.raises(EndpointUnreachable, match="refuses the token"):
            endpoints.facts(SOURCE)

    assert len(api.questions) == 1


def test_one_reading_is_for_all_resources_of_a_phase(api: CannedApi) -> None:
    endpoints = open_endpoints(stack_of(api))
    found = [endpoints.facts(SOURCE) for _ in range(2)]

    assert found[0] is found[1] and isinstance(found[0], Facts)
    assert len(api.questions) == 2 + len(OBJECTS)


def test_no_server_at_the_address(api: CannedApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    declared = api.declared.model_copy(update={"url": f"https://127.0.0.1:{free}"})
    found = failure(KubernetesClient("kubernetes:shared", declared, TOKEN, ""))

    assert found.problem.startswith("no answer from the API: ") and str(free) not in found.problem
    assert str(free) in found.note  # which no state has


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (None, "the value of the secret shared_token is unknown"),
        ("a token\nin two lines", "the secret shared_token is no token"),
        ("tökentökentökentöken", "the secret shared_token is no token"),
    ],
    ids=["unknown", "blanks", "no header"],
)
def test_a_token_that_no_header_can_have_is_not_sent(api: CannedApi, token: str | None, problem: str) -> None:
    """
    The standard library would quote it in its error.
    """
    with pytest.raises(EndpointUnreachable) as caught:
        connect(stack_of(api, token), "shared")

    assert caught.value.diagnostic.problem == problem
    assert token is None or token not in caught.value.render()


def test_the_end_of_a_line_after_the_token_does_not_count(api: CannedApi) -> None:
    """
    Files and pipes end with one.
    """
    connect(stack_of(api, f"{TOKEN}\n"), "shared").read()

    assert api.questions[0][1] == f"Bearer {TOKEN}"


def test_a_cluster_that_is_not_declared_is_not_reached(api: CannedApi) -> None:
    """
    Its entry may still be in the state.
    """
    with pytest.raises(EndpointUnreachable, match="the stack has no such API"):
        open_endpoints(stack_of(api)).facts(EndpointSource("kubernetes", "former"))


def test_no_step_changes_a_cluster_of_others(api: CannedApi) -> None:
    with pytest.raises(StepFailed, match="it is never changed"):
        client(api).call("shared/cluster", Call("delete it", "delete"))
    assert api.questions == []
