"""Line 8: an operator of a team reaches nothing of other teams or of the cluster, whatever an object says."""

import base64
import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rackwright.kinds.cluster import fairness
from rackwright.kinds.cluster.team import TeamPart
from rackwright.kinds.cluster.team import objects as team_objects
from rackwright.schema.cluster import Team
from rackwright.schema.cluster_store import OBJECT_BYTES
from rackwright.schema.units import Size
from rackwright.toolchain.kubernetes_controllers import QUEUE
from tests.support import controller_manifests
from tests.support.acceptance import line
from tests.support.api_requests import DRY, ApiRequests
from tests.support.api_tier import ApiTier, api_tier, kubelet
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.pod_workloads import SERVING, TRAINING, made
from tests.support.team_attacks import (
    OPERATOR,
    OTHER,
    QUOTA,
    TEAM,
    Attack,
    attacks,
    job_set,
    job_sets,
    permitted,
    pod,
    service,
)
from tests.support.team_fields import JOB_SET, fields_of_job_set, fields_of_server, judged, of_kubernetes

SECONDS = 120
TEAMS = tuple(
    TeamPart(name=name, declared=Team(cpus=64, memory=Size("64GiB"), gpus=4, operators=(f"{name}-operators",)))
    for name in (TEAM, OTHER)
)
_V1, _APPS, _RBAC = "/api/v1", "/apis/apps/v1", "/apis/rbac.authorization.k8s.io/v1"
_NETWORK, _ADMISSION = "/apis/networking.k8s.io/v1", "/apis/admissionregistration.k8s.io/v1"
_OWN = f"namespaces/{TEAM}"
NOT_GRANTED: tuple[tuple[str, str], ...] = (
    *(("GET", f"{_V1}/{path}") for path in (f"{_OWN}/secrets", "secrets", "nodes", "pods", "namespaces/speech/pods")),
    *(
        ("POST", f"{_V1}/{_OWN}/{name}")
        for name in ("secrets", "events", "endpoints", "serviceaccounts", "podtemplates")
    ),
    *(("POST", f"{_V1}/{_OWN}/{name}") for name in ("resourcequotas", "limitranges", "replicationcontrollers")),
    *(("POST", f"{_V1}/{_OWN}/pods/x/{name}") for name in ("exec", "attach", "portforward", "binding", "eviction")),
    *(("PUT", f"{_V1}/{_OWN}/pods/x/{name}") for name in ("status", "ephemeralcontainers", "resize")),
    ("GET", f"{_V1}/{_OWN}/services/x/proxy"),
    ("GET", f"{_V1}/nodes/cp-01/proxy/pods"),
    ("POST", f"{_V1}/{_OWN}/serviceaccounts/default/token"),
    *(("POST", f"{_V1}/{name}") for name in ("nodes", "namespaces", "persistentvolumes")),
    ("PATCH", f"{_V1}/{_OWN}"),
    ("POST", f"{_V1}/namespaces/{OTHER}/pods"),
    ("POST", f"{_V1}/namespaces/kube-system/pods"),
    *(("POST", f"{_APPS}/{_OWN}/{name}") for name in ("daemonsets", "controllerrevisions")),
    *(("POST", f"{_NETWORK}/{_OWN}/{name}") for name in ("networkpolicies", "ingresses")),
    *(("POST", f"{_RBAC}/{_OWN}/{name}") for name in ("roles", "rolebindings")),
    *(("POST", f"{_RBAC}/{name}") for name in ("clusterroles", "clusterrolebindings")),
    *(("DELETE", f"{_ADMISSION}/validatingadmissionpolicies/rackwright-teams-{name}") for name in ("pods", "services")),
    ("DELETE", f"{_ADMISSION}/validatingadmissionpolicybindings/rackwright-teams-pods"),
    ("POST", f"{_ADMISSION}/mutatingwebhookconfigurations"),
    ("POST", "/apis/scheduling.k8s.io/v1/priorityclasses"),
    ("POST", f"/apis/discovery.k8s.io/v1/{_OWN}/endpointslices"),
    ("POST", f"/apis/coordination.k8s.io/v1/{_OWN}/leases"),
    ("POST", f"/apis/resource.k8s.io/v1/{_OWN}/resourceclaims"),
    ("POST", f"/apis/resource.k8s.io/v1/{_OWN}/resourceclaimtemplates"),
    ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
    ("DELETE", f"{_V1}/{_OWN}/resourcequotas/team"),
    ("DELETE", f"{_V1}/{_OWN}/limitranges/team"),
)
"""Requests that the roles of a team give no right for."""


@line("hardening2", 8, part="job-sets")
def test_an_operator_of_a_team_can_misuse_no_field_of_a_job_set(log: Log) -> str:
    """Each hostile set is refused, without the controllers; each field of the definition has a verdict."""
    with teams(log) as (tier, requests):
        definition = _define_job_sets(tier, requests, log)
        tried = [*job_sets()]
        let_in = [
            f"{each.name}: {found or 'made'}"
            for each in tried
            if not _is_refused(each, found := requests.create(each.item, OPERATOR))
        ]
        need(not let_in, f"{len(let_in)} of {len(tried)} hostile sets: {let_in[:20]}")
        found_fields = fields_of_job_set(definition)
        different = sorted(found_fields ^ {name for name in judged() if name.startswith(JOB_SET)})
        need(not different, f"fields without a verdict: {different}")
    return f"{len(tried)} hostile job sets were refused; {len(found_fields)} fields have a verdict"


CHARACTERS = ("<", ">", "&", "\x01", "\x07", "\v", "\u2028", "\u2029", "\ufffd", '"', "\\", "\n", "0", "\U0001f600")
"""Characters of which JSON, in which etcd has job sets, has up to six bytes for one."""
QUOTA_BYTES = 16 << 20
"""Limit of etcd in the test of its versions, 1/512 of the one that the role sets."""
COMPACTION_SECONDS = 2
_CAROL = ("--as=carol", f"--as-group={OTHER}-operators", "--as-group=system:authenticated")


@contextmanager
def teams(log: Log, more: Mapping[str, Sequence[str]] = {}) -> Iterator[tuple[ApiTier, ApiRequests]]:
    """Yield an API without nodes whose policies for two teams work."""
    with api_tier(log, log.empty_directory(), more) as tier:
        requests = ApiRequests(tier.kubeconfig)
        tier.set(*team_objects(TEAMS).values())
        refused = {"kind": "Pod", **pod(lambda spec: spec.update(nodeName="cp-01"))}
        eventually(lambda: "Policy" in requests.create(refused, OPERATOR), "the policies are enforced", SECONDS)
        eventually(lambda: not requests.create(pod(), OPERATOR), "the quota is counted", SECONDS)
        yield tier, requests


@line("hardening2", 8, part="fields")
def test_an_operator_of_a_team_can_misuse_no_field_of_an_object(log: Log) -> str:
    """Each hostile object is refused by name; what a team needs is not, and neither is what rackwright makes."""
    with teams(log) as (tier, requests):
        log("hostile objects")
        tried = [*attacks()]
        let_in = [
            f"{each.name}: {found or 'made'}" for each in tried if not _is_refused(each, found := _try(requests, each))
        ]
        need(not let_in, f"{len(let_in)} of {len(tried)} hostile objects: {let_in[:20]}")
        log("requests without a right")
        open_doors = [
            f"{verb} {path}" for verb, path in NOT_GRANTED if requests.ask(verb, path + DRY, {}, OPERATOR)[0] != 403
        ]
        need(not open_doors, f"allowed: {open_doors}")
        log("what a team needs")
        needed = [*permitted()]
        refused = [found for item in needed if (found := requests.create(item, OPERATOR))]
        need(not refused, f"{len(refused)} of {len(needed)} harmless objects are refused: {refused[:10]}")
        changes = _changes(tier, requests)
        own = _rackwright_s_own(tier)
        log("the list of fields")
        known, found_fields = judged(), fields_of_server(requests)
        different = sorted(found_fields ^ of_kubernetes(known))
        need(not different, f"fields without a verdict: {different[:20]}")
    several = len({each.field for each in tried})
    return (
        f"{len(tried)} hostile objects over {several} fields, {len(NOT_GRANTED)} requests without a right and {changes}"
        f" changes of objects that exist were refused; {len(needed)} harmless objects and {own} pods of rackwright were"
        f" not; {len(found_fields)} fields of the API's types have a verdict"
    )


@line("hardening2", 8, part="etcd")
def test_versions_of_the_objects_of_a_team_do_not_fill_etcd(log: Log) -> str:
    """Eight clients of a team write the largest objects again and again; the store keeps room for all others.

    Half of them write a job set of characters that have six bytes in JSON.
    """
    more = {
        "etcd": [f"--quota-backend-bytes={QUOTA_BYTES}"],
        "kube-apiserver": [f"--etcd-compaction-interval={COMPACTION_SECONDS}s"],
    }
    with teams(log, more) as (tier, requests):
        seats = _seats(requests)
        need(seats == fairness.SEATS, f"the API server gives teams {seats} seats")
        need(not (found := requests.create(_config("x", 1), OPERATOR, dry=False)), f"an object is refused: {found}")
        log("sizes of job sets as etcd has them")
        _define_job_sets(tier, requests, log)
        need(not (found := requests.create(job_set(), OPERATOR, dry=False)), f"a job set is refused: {found}")
        several = {each: _largest(requests, each) for each in CHARACTERS}
        stored = []
        for number, (character, count) in enumerate(several.items()):
            found = requests.create(_annotated(f"c{number}", character * count), OPERATOR, dry=False)
            need(not found, f"{count} times {character!r}: {found}")
            stored.append(_stored(tier, f"c{number}"))
        need(max(stored) <= OBJECT_BYTES and min(several.values()) > 1000, f"{stored} bytes of {several}")
        log("versions of a configuration and of a job set")
        began, ended = time.monotonic(), threading.Event()
        writers = [_Writer(tier, number, ended, several["<"]) for number in range(8)]
        peak, others = 0, 0
        for each in writers:
            each.start()
        try:
            while sum(each.written for each in writers) < 4 * QUOTA_BYTES:
                need(time.monotonic() < began + 500, f"{sum(each.written for each in writers)} bytes were written")
                time.sleep(1)
                peak = max(peak, (tier.directory / "etcd/member/snap/db").stat().st_size)
                found = requests.create(_config(f"o{others % 50}", 1, OTHER), _CAROL, dry=others >= 50)
                others += 1
                need(not found or "409" in found, f"another team is refused: {found}")
        finally:
            ended.set()
            for each in writers:
                each.join()
        refused = [text for each in writers for text in each.refused]
        need(not refused, f"etcd is full: {refused[:2]}")
        need(peak < QUOTA_BYTES, f"the file of etcd has {peak} bytes")
        number = sum(each.count for each in writers)
        rate = number / (time.monotonic() - began)
        log("the same team without the policy of sizes")
        tier.ask("delete", "validatingadmissionpolicybinding", "rackwright-teams-size")
        large = (requests.create(_config(f"l{number}", 900_000), OPERATOR, dry=False) for number in range(60))
        need(any("database space exceeded" in each for each in large), "large objects do not fill etcd")
        need("space exceeded" in requests.create(_config("last", 1, OTHER), _CAROL, dry=False), "others still write")
    return (
        f"{len(stored)} job sets had {max(stored)} bytes at most;"
        f" {number} versions, {rate:.0f} in a second, 4 times the limit of etcd, took {peak >> 20} MiB of"
        f" {QUOTA_BYTES >> 20}, and another team wrote {others} times; without the policy of sizes etcd was full"
    )


class _Writer(threading.Thread):
    """An operator who changes a configuration or a job set as fast as the API answers.

    Args:
        longest: How often a job set may have the character `<`.
    """

    def __init__(self, tier: ApiTier, number: int, ended: threading.Event, longest: int) -> None:
        super().__init__()
        self._requests, self._number, self._ended = ApiRequests(tier.kubeconfig), number, ended
        self._longest = longest
        self.count = 0
        self.refused: list[str] = []

    @property
    def written(self) -> int:
        return self.count * OBJECT_BYTES

    def run(self) -> None:
        while not self._ended.is_set():
            digit = str((self.count + self._number) % 10)
            if self._number % 2:
                path = f"/apis/jobset.x-k8s.io/v1alpha2/{_OWN}/jobsets/x"
                change: dict[str, Any] = {"metadata": {"annotations": {"a": "<" * (self._longest - 50) + digit}}}
            else:
                path, change = f"{_V1}/{_OWN}/configmaps/x", {"data": {"a": digit * (OBJECT_BYTES - 600)}}
            status, answer = self._requests.ask("PATCH", path, change, OPERATOR)
            if status == 200:
                self.count += 1
            elif status not in (409, 429):  # two writers at once, and too many in the queue
                self.refused.append(f"{status} {answer}")


def _config(name: str, size: int, namespace: str = TEAM) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "0" * size}}


def _define_job_sets(tier: ApiTier, requests: ApiRequests, log: Log) -> Mapping[str, Any]:
    """Set the definition of job sets and the rights of teams to make some, and return the definition."""
    items = controller_manifests.read(QUEUE, tier.built / "kubectl", log)
    [definition] = [each for each in items if each["metadata"]["name"] == "jobsets.jobset.x-k8s.io"]
    definition["spec"].pop("conversion", None)  # its webhook does not run
    tier.set(definition)
    roles = team_objects(each.model_copy(update={"cohort": "main"}) for each in TEAMS)
    tier.set(*(item for item in roles.values() if item["kind"] == "Role"))
    eventually(lambda: not requests.create(job_set(), OPERATOR), "a harmless set is let in", SECONDS)
    return definition


def _annotated(name: str, text: str) -> dict[str, Any]:
    return {**job_set(), "metadata": {"name": name, "namespace": TEAM, "annotations": {"a": text}}}


def _largest(requests: ApiRequests, character: str) -> int:
    """Return how often a *character* may be in a job set that the API lets in."""
    least, most = 0, OBJECT_BYTES + 1
    while most - least > 1:
        middle = (least + most) // 2
        refused = requests.create(_annotated("largest", character * middle), OPERATOR)
        least, most = (least, middle) if refused else (middle, most)
    return least


def _stored(tier: ApiTier, name: str) -> int:
    """Return the bytes of a job set as etcd has them."""
    [url] = {*re.findall(r'"listen-client-urls":\["(http://[0-9.:]+)"', (tier.directory / "etcd.log").read_text())}
    key = base64.b64encode(f"/registry/jobset.x-k8s.io/jobsets/{TEAM}/{name}".encode()).decode()
    with urllib.request.urlopen(f"{url}/v3/kv/range", json.dumps({"key": key}).encode(), timeout=30) as answer:
        [found] = json.load(answer)["kvs"]
    return len(base64.b64decode(found["value"]))


def _seats(requests: ApiRequests) -> int:
    """Return the number of requests of teams that the API server works on at a time, as it says itself."""
    name = 'apiserver_flowcontrol_nominal_limit_seats{priority_level="rackwright-teams"}'

    def value() -> int:
        found = [text for text in requests.ask("GET", "/metrics")[1].splitlines() if text.startswith(name)]
        return int(float(found[0].split()[-1])) if found else 0

    eventually(lambda: value() > 0, "the API server knows the level of teams", SECONDS)
    return value()


def _try(requests: ApiRequests, attack: Attack) -> str:
    """Return the refusal of a hostile object; a quota is not counted in a rehearsal."""
    return requests.create(attack.item, attack.account, dry=attack.refused_by != QUOTA)


def _is_refused(attack: Attack, found: str) -> bool:
    return found.startswith(("403", "422")) and attack.refused_by in found


def _changes(tier: ApiTier, requests: ApiRequests) -> int:
    """Change objects that exist as an operator, and return the number of refused changes."""
    for item in (service(), pod()):
        need(not (found := requests.create(item, OPERATOR, dry=False)), f"a harmless object is refused: {found}")
    base = f"{_V1}/{_OWN}"
    changes: list[tuple[str, Any]] = [
        (f"{base}/services/x", {"spec": {"externalIPs": ["10.41.0.11"]}}),
        (f"{base}/services/x", {"spec": {"type": "NodePort"}}),
        (f"{base}/services/x", {"spec": {"type": "LoadBalancer"}}),
        (f"{base}/pods/x", {"spec": {"tolerations": [{"operator": "Exists"}]}}),
        (f"{base}/pods/x", {"spec": {"priorityClassName": "system-node-critical"}}),
        (base, {"metadata": {"labels": {"rackwright.local/team": None}}}),
        (f"{_ADMISSION}/validatingadmissionpolicies/rackwright-teams-pods", {"spec": {"failurePolicy": "Ignore"}}),
    ]
    for path, change in changes:
        status, answer = requests.ask("PATCH", path + DRY, change, OPERATOR)
        need(status in (403, 422), f"{path} {change}: {status} {answer}")
    # what needs no right of its own stays possible, also for a pod that the policies would refuse today
    status, answer = requests.ask("PATCH", f"{base}/pods/x", {"metadata": {"labels": {"a": "b"}}}, OPERATOR)
    need(status == 200, f"a label of a pod: {answer}")
    # no Service of the whole cluster has addresses of its own, and no account can change that
    status, answer = requests.ask("POST", f"{_V1}/namespaces/default/services{DRY}", {
        **service(externalIPs=["10.41.0.11"]), "metadata": {"name": "x", "namespace": "default"},
    })  # fmt: skip
    need(
        status == 403 and "external IPs" in str(answer),
        f"the API server lets an administrator take addresses: {answer}",
    )
    return len(changes) + 1


def _rackwright_s_own(tier: ApiTier) -> int:
    """Make a run and a server as a control plane does, and return the number of pods that their controllers make."""
    training = TRAINING.model_copy(update={"name": "trained"})
    tier.set(*made(training).values())
    with kubelet(tier, TEAM, f"models/{SERVING.server.version}" if SERVING.server else ""):
        need(tier.roll_out(made(SERVING).values(), SECONDS) == 0, "the server does not get ready")

    def pods() -> list[str]:
        found = tier.read("pods", f"--namespace={TEAM}", "--selector=app.kubernetes.io/managed-by=rackwright")["items"]
        return [each["metadata"]["name"] for each in found]

    wanted = training.count + SERVING.count
    eventually(lambda: len(pods()) == wanted, f"{wanted} pods of a run and of a server are made", SECONDS)
    return wanted
