"""Line 8: people of a team push nothing out of the audit log by the content of their requests."""

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rackwright.kinds.cluster.team import TeamPart, objects
from rackwright.schema.cluster import Team
from rackwright.schema.units import Size
from tests.support.acceptance import line
from tests.support.api_requests import ApiRequests
from tests.support.api_tier import api_tier
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log
from tests.support.team_attacks import OPERATOR, TEAM, pod

SECONDS = 120
POLICY = ROOT / "roles/kubernetes_control_plane/templates/etc/rackwright/kubernetes/audit-policy.yaml.j2"
FILES, MEGABYTES = 20, 1
CLIENTS, REQUESTS, BODY = 4, 100, 900_000
DEED = "deed-of-an-administrator"


@line("hardening2", 8, part="audit")
def test_people_of_a_team_do_not_push_changes_out_of_the_audit_log(log: Log) -> str:
    """An operator sends the largest refused requests; the log keeps an earlier change of an administrator, whole."""
    directory = log.empty_directory()
    policy, place = directory / "audit-policy.yaml", directory / "audit"
    policy.write_text(POLICY.read_text().replace("{{ host.name }}", "cp-01"))
    place.mkdir()
    more = {"kube-apiserver": _options(policy, place)}
    with api_tier(log, directory, more) as tier:
        team = TeamPart(name=TEAM, declared=Team(cpus=8, memory=Size("8GiB"), operators=(f"{TEAM}-operators",)))
        tier.set(*objects([team]).values())
        requests = ApiRequests(tier.kubeconfig)
        eventually(lambda: "nodeName" in requests.create(_refused(0), OPERATOR), "the policies are enforced", SECONDS)
        tier.ask("create", "clusterrolebinding", DEED, "--clusterrole=cluster-admin", "--user=x")
        eventually(lambda: _deeds(place) == 1, "the deed is in the log, with its content", SECONDS)
        log("refused requests")
        before, began = _bytes(place), time.monotonic()
        certificate, answers = _certificate(directory), list[str]()
        clients = [threading.Thread(target=_send, args=(tier.kubeconfig, certificate, answers)) for _ in range(CLIENTS)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        seconds = time.monotonic() - began
        wrong = [each for each in answers if not each.startswith(("403", "422"))]
        need(len(answers) == CLIENTS * REQUESTS and not wrong, f"{len(answers)} requests: {wrong[:2]}")
        time.sleep(1)  # the log is written in batches
        written, sent = _bytes(place) - before, CLIENTS * REQUESTS * BODY
        need(sent > 10 * FILES * MEGABYTES << 20, f"only {sent} bytes were sent")
        need(_deeds(place) == 1, "the log has lost what an administrator did")
        each_request = written // (CLIENTS * REQUESTS)
        need(0 < each_request < 4096, f"the log has {each_request} bytes of each refused request")
    return (
        f"{CLIENTS * REQUESTS} refused requests with {sent >> 20} MiB in {seconds:.0f} s took {each_request} bytes of"
        f" the log each, and a change of an administrator from before is there, in a log of {FILES * MEGABYTES} MB"
    )


def _options(policy: Path, place: Path) -> Sequence[str]:
    return (
        f"--audit-policy-file={policy}",
        f"--audit-log-path={place}/audit.log",
        f"--audit-log-maxbackup={FILES - 1}",
        f"--audit-log-maxsize={MEGABYTES}",
    )


def _refused(size: int) -> dict[str, Any]:
    """Return a pod that is refused, with a value of *size* bytes."""
    return {"kind": "Pod", **pod(lambda spec: _fill(spec, size))}


def _fill(spec: dict[str, Any], size: int) -> None:
    spec["nodeName"] = "cp-01"
    spec["containers"][0]["env"] = [{"name": "A", "value": "x" * size}]


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate of an operator: the log has the account that asks, and not the one that it acts as."""
    found = directory / "operator.crt", directory / "operator.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "1")
    authority = ("-x509", "-CA", directory / "authority.crt", "-CAkey", directory / "authority.key")
    names = ("-subj", f"/O={TEAM}-operators/CN=mallory", "-addext", "extendedKeyUsage=clientAuth")
    argv = ("openssl", "req", *authority, *curve, *names, "-out", found[0], "-keyout", found[1])
    subprocess.run(argv, check=True, capture_output=True)
    return found


def _send(kubeconfig: Path, certificate: tuple[Path, Path], answers: list[str]) -> None:
    requests, item = ApiRequests(kubeconfig, certificate), _refused(BODY)
    for _ in range(REQUESTS):
        answers.append(requests.create(item))


def _bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in place.iterdir())


def _deeds(place: Path) -> int:
    """Return the number of entries about the deed that have its content."""
    lines = (text for path in place.iterdir() for text in path.read_text().splitlines() if DEED in text)
    entries = (json.loads(text) for text in lines)
    return sum(each.get("requestObject", {}).get("metadata", {}).get("name") == DEED for each in entries)
