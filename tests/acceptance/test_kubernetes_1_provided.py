"""Line 1, a cluster of others: read by its URL, authority and token from a real API server, and never changed."""

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from rackwright import scratch
from rackwright.endpoints.kubernetes_facts import NODES, OBJECTS
from rackwright.schema.cluster import Team
from rackwright.schema.units import Size
from rackwright.toolchain.kubernetes import pins, programs
from tests.support.acceptance import line
from tests.support.api_server import ApiServer, api_server
from tests.support.expect import need
from tests.support.lab import Lab, format_claims
from tests.support.leaks import forms, leaks
from tests.support.log import Log
from tests.support.record_cluster import LISTS, NODES_DECLARED, make

CLUSTER, STACK, SECRET = "shared/cluster", "prod", "shared_token"
TEAM: dict[str, Any] = {
    "cpus": 64,
    "memory": "512GiB",
    "gpus": 4,
    "operators": ["vision-operators"],
    "viewers": ["auditors"],
}
EDITS = {
    "object:vision/ResourceQuota/team": "-n vision patch resourcequota team --type merge "
    """-p {"spec":{"hard":{"pods":"1000","count/secrets":"5"}}}""",
    "object:vision/LimitRange/team": "-n vision patch limitrange team --type json "
    """-p [{"op":"add","path":"/spec/limits/-","value":{"type":"Pod","max":{"cpu":"64"}}}]""",
    "object:vision/Role/viewer": "-n vision patch role viewer --type json "
    """-p [{"op":"add","path":"/rules/-","value":{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}}]""",
    "object:vision/RoleBinding/viewer": "-n vision patch rolebinding viewer --type json -p "
    """[{"op":"add","path":"/subjects/-","value":"""
    """{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}}]""",
    "object:vision/NetworkPolicy/deny": "-n vision patch networkpolicy deny --type merge "
    """-p {"spec":{"ingress":[{}]}}""",
    "object:vision/NetworkPolicy/dns": "-n vision delete networkpolicy dns",
    "object:Namespace/vision": "label --overwrite namespace vision pod-security.kubernetes.io/enforce=privileged",
    "object:PriorityClass/training": "delete priorityclass training",
    "node:gpu-21": "label --overwrite node gpu-21 rack=z9",
    "node:cp-1.shared.example": "taint node cp-1.shared.example node-role.kubernetes.io/control-plane-",
    "cluster:shared": "delete node gpu-22",
    "namespace:vision": "-n vision create rolebinding friend --clusterrole=admin --user=mallory",
}
"""The edit of each thing by hand, by the claim under which it is found."""
DELETED = "node:gpu-22"
"""The claim on the node that the edit of `cluster:shared` deletes."""


@line("kubernetes", 1, part="provided")
def test_a_cluster_of_others_is_compared_by_its_url_and_never_changed(log: Log) -> str:
    """Edits by hand are found under their paths; what a token may not read is unknown; no token is written."""
    built = programs.ensure_programs(log.write)
    directory = log.empty_directory()
    (server := directory / "server").mkdir()
    with api_server(server, built) as api:
        make(api, Team.model_validate({**TEAM, "memory": Size(TEAM["memory"])}))
        reader, without_rights = api.token("reader", LISTS), api.token("without-rights")
        with Lab(directory / "project", _fleet(api), log, STACK, target="rack") as lab:
            lab.pulumi("stack", "init", status=0)
            lab.set_secret(SECRET, reader)
            lab.up()
            need(not (left := lab.differing()), f"of the cluster as it was made differ {format_claims(left)}")
            _need_access_by_token(lab)
            log(f"{len(EDITS)} edits by hand")
            for edit in EDITS.values():
                api.kubectl(*edit.split(" "))
            wanted = {(CLUSTER, claim) for claim in (*EDITS, DELETED)}
            found = lab.differing()
            facts = str(directory / "facts")
            lab.rackwright("audit", STACK, "--save", facts, status=1)
            rows = json.loads(lab.rackwright("status", STACK, "--json", status=1).stdout)["hosts"]
            need(rows.keys() == {"shared"}, f"status lists {sorted(rows)}")
            need(found == wanted, f"found {format_claims(found)}, and not {format_claims(wanted - found)}")
            before = _objects(api)
            lab.up(status=1)
            need(_objects(api) == before, "up has changed the cluster")
            log("tokens without rights, and none at all")
            unknown = _need_unknown(lab, without_rights, "403 Forbidden")
            _need_not_reached(lab, "no-token-of-this-cluster", "the API refuses the token: 401 Unauthorized")
            lab.set_secret(SECRET, reader)
    log("the server is off, and the cluster leaves the fleet")
    _need_not_reached(lab, reader, "no answer from the API")
    [saved] = json.loads(lab.rackwright("audit", STACK, "--snapshot", facts, "--json", status=1).stdout)["resources"]
    need({(CLUSTER, each["claim"]) for each in saved["differences"]} == found, "the snapshot shows other differences")
    lab.edit(lambda fleet: fleet["clusters"].clear())
    lab.up()
    state = lab.pulumi("stack", "export", status=0).stdout
    need(CLUSTER not in state, "the cluster is still in the state")
    written = leaks(forms({"the reader's token": reader, "the other token": without_rights}), lab.directory, log.path)
    need(not written, f"a token was written: {', '.join(written)}")
    return f"{len(found)} claims differed after {len(EDITS)} edits; without rights {unknown} properties were unknown"


def _fleet(api: ApiServer) -> str:
    declared = {
        "provided": True,
        "version": pins.KUBERNETES,
        "api": {"url": api.url, "ca": api.authority, "token": {"secret": SECRET}},
        "nodes": NODES_DECLARED,
        "teams": {"vision": TEAM},
    }
    return str(yaml.safe_dump({"fleet": "shared", "hosts": {}, "clusters": {"shared": declared}}))


def _objects(api: ApiServer) -> list[tuple[str, str]]:
    """Return the name and the version of each object that an `up` could have changed."""
    kinds = ",".join(path.rpartition("/")[2] for path in (NODES, *OBJECTS.values()))
    items = json.loads(api.kubectl("get", kinds, "--all-namespaces", "--output=json"))["items"]
    return sorted((item["metadata"]["uid"], item["metadata"]["resourceVersion"]) for item in items)


def _need_access_by_token(lab: Lab) -> None:
    """Require that a command has the rights of the token, and no file of it stays."""
    temporary = scratch.own_directory(Path(tempfile.gettempdir()))
    kept = {*temporary.iterdir()}
    names = lab.rackwright("cluster", "exec", STACK, "--", "kubectl", "get", "nodes", "--output=name", status=0).stdout
    need(names.split() == [f"node/{name}" for name in sorted(NODES_DECLARED)], f"kubectl printed {names!r}")
    denied = lab.rackwright("cluster", "exec", STACK, "--", "kubectl", "delete", "node", "gpu-21")
    need(denied.returncode == 1 and "Forbidden" in denied.stderr, f"kubectl ended with {denied.returncode}")
    left = {*temporary.iterdir()} - kept
    need(not [path for path in left if (path / "kubeconfig").exists()], f"kubeconfigs are left in {sorted(left)}")


def _need_unknown(lab: Lab, token: str, reason: str) -> int:
    """Require that with *token* all but the version is unknown, with the *reason*; return the number of properties."""
    lab.set_secret(SECRET, token)
    report = lab.audit(status=3)
    [resource] = report["resources"]
    need(resource["not_reached"] is None, f"not reached: {resource['not_reached']}")
    need(all(item["unknown"] for item in resource["differences"]), "a difference is known")
    things = {item["claim"] for item in resource["differences"]}
    need(things >= {*EDITS, DELETED}, f"known without rights: {sorted({*EDITS, DELETED} - things)}")
    need(reason in json.dumps(resource), f"the report has no {reason}")
    return len(resource["differences"])


def _need_not_reached(lab: Lab, token: str, reason: str) -> None:
    lab.set_secret(SECRET, token)
    [resource] = lab.audit(status=3)["resources"]
    need(reason in (resource["not_reached"] or ""), f"not reached: {resource['not_reached']}")
    preview = lab.rackwright("preview", STACK)
    need(reason in " ".join((preview.stdout + preview.stderr).split()), f"the preview has no {reason}")
