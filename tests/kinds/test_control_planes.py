"""Several control planes of one cluster: their order, how they join, and what is claimed of them."""

import json
import subprocess
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Difference, Plan, PutOutput, Remove
from rackwright.errors import DeclarationError
from rackwright.facts.facts import Facts
from rackwright.facts.probe import kubernetes
from rackwright.fleet import load_fleet
from rackwright.kinds.cluster import ClusterSpec, further_plane
from rackwright.kinds.cluster.cluster import COMPONENTS
from rackwright.kinds.cluster.team import content, objects
from rackwright.kinds.role.promise import promises
from rackwright.schema.cluster import HOSTNAME_LABEL
from rackwright.schema.pods import cluster_of
from rackwright.stack import DeclaredResource
from rackwright.stack.clusters import version_problems
from rackwright.stack.resources import declare_unchecked
from rackwright.toolchain.kubernetes import programs
from tests.support.mutations import Raw
from tests.support.recorded_hosts import HERE, STACK, recorded

TEXT = (HERE / "planes.yaml").read_text()
PLANES = replace(STACK, fleet=load_fleet(HERE / "planes.yaml", STACK.repository.roles))
RESOURCES = {resource.name: resource for resource in declare_unchecked(PLANES)}
JOINING = f"{further_plane.SETTINGS}/joining"


def differences(declared: DeclaredResource, raw: Raw) -> tuple[Difference, ...]:
    claims = declared.kind.claims(declared.spec, STACK.repository)
    return comparison.diff(claims, declared.kind.observe(claims, Facts(raw)))


def planned(name: str, raw: Raw) -> Plan:
    declared = RESOURCES[name]
    return declared.kind.plan(declared.spec, differences(declared, raw), Facts(raw), STACK.repository)


def joined(host: str) -> Raw:
    """Return the facts of *host* as those of a recorded node, which has joined the cluster of these planes."""
    raw = recorded("aspen")
    raw["identity"]["serial"] = f"S-{host.upper()}"
    raw["kubernetes_node"]["server"] = "https://10.147.0.10:6443"
    raw["owners"]["node"].update(id=f"{host}/node", fleet="planes", phase="ready")
    raw.setdefault("covers", {"files": ["/etc"], "texts": [], "sysctls_left_out": []})
    raw["files"] = {
        "/etc/hostname": {"digest": "d", "mode": "0644", "owner": "root:root", "mtime_ns": 1},
        **raw.get("files", {}),
    }
    return raw


def blank(host: str) -> Raw:
    raw = joined(host)
    raw["kubernetes_node"] = None
    raw["owners"] = {}
    return raw


def test_each_resource_comes_after_those_that_it_needs() -> None:
    """
    Control planes join and change one after another, whatever their place in the file, so that etcd keeps its majority.
    """
    seen: set[str] = set()
    for name, resource in RESOURCES.items():
        assert {*resource.after} <= seen, name
        seen.add(name)
    assert RESOURCES["holly/node"].after == ("holly/kubernetes_node", "beech/kubernetes_control_plane")
    assert "holly/node" in RESOURCES["holly/kubernetes_control_plane"].after
    assert "holly/kubernetes_control_plane" in RESOURCES["larch/kubernetes_node"].after
    assert RESOURCES["spruce/node"].after[1:] == tuple(
        f"{plane}/kubernetes_control_plane" for plane in ("beech", "holly", "larch")
    )
    assert "beech/node" not in RESOURCES


def test_only_the_first_control_plane_makes_the_cluster() -> None:
    joins = {
        name.partition("/")[0]: resource.spec.variables.get("joins", False)
        for name, resource in RESOURCES.items()
        if name.endswith("/kubernetes_control_plane")
    }
    assert joins == {"beech": False, "holly": True, "larch": True}


def test_a_control_plane_joins_by_keys_that_are_deleted_afterwards() -> None:
    """
    The plan has the commands that print keys, and no key.
    """
    plan = planned("holly/node", blank("holly"))

    assert [step.text for step in plan.steps] == [
        "note in the owner file: joining",
        "create /etc/rackwright/kubernetes",
        "copy /etc/rackwright/kubernetes/admission.yaml from beech",
        "copy /etc/rackwright/kubernetes/audit-policy.yaml from beech",
        "copy /etc/rackwright/kubernetes/authentication.yaml from beech",
        "copy /etc/rackwright/kubernetes/encryption.yaml from beech",
        "get a token and a certificate key of beech",
        "join cluster main as a control plane",
        "delete the uploaded keys and the token on beech",
        "mark the node, and wait until it is ready",
        "note in the owner file: ready",
    ]
    invite, join = plan.steps[6:8]
    assert isinstance(invite, PutOutput) and isinstance(join, Command)
    assert (invite.source, invite.argv[-3:]) == ("beech", ("holly", "10.147.0.10:6443", "10.147.0.12"))
    assert invite.path == join.argv[-2]


@pytest.mark.parametrize("server", ["10.147.0.10", "10.147.0.12"], ids=["the endpoint", "its own API"])
def test_the_kubelet_of_a_control_plane_may_ask_its_own_api(server: str) -> None:
    """
    kubeadm writes the address of the host since version 1.33. A host that only runs pods asks the endpoint.
    """
    holly, spruce = joined("holly"), joined("spruce")
    for raw in (holly, spruce):
        raw["kubernetes_node"]["server"] = f"https://{server}:6443"

    assert differences(RESOURCES["holly/node"], holly) == ()
    assert bool(planned("spruce/node", spruce).refusals) == (server != "10.147.0.10")


def test_a_join_that_was_cut_begins_again() -> None:
    """
    kubeadm writes the file of kubelet before the host has a member of etcd.
    """
    raw = joined("holly")
    raw["files"][JOINING] = {"digest": "empty", "mode": "0644", "owner": "root:root", "mtime_ns": 1}

    assert "join cluster main as a control plane" in [step.text for step in planned("holly/node", raw).steps]


def test_a_control_plane_that_is_declared_no_longer_stays_in_the_cluster() -> None:
    """
    Its member of etcd has to leave first: with a member that is gone, etcd counts one voter that never answers.
    """
    kind, spec = RESOURCES["holly/node"].kind, RESOURCES["holly/node"].spec
    plan = kind.removal(spec, Facts(joined("holly")), STACK.repository, consent=False)
    assert [type(step) for step in plan.steps] == [Remove]
    assert plan.notes == ("holly stays a control plane of main",)

    raw = cluster()
    raw["kubernetes_cluster"]["nodes"]["oak"] = raw["kubernetes_cluster"]["nodes"]["holly"]
    plan = planned("beech/cluster", raw)
    assert (plan.steps, [item.path for item in plan.by_hand]) == ((), ["cluster:main.nodes"])


def _named(node: Raw, name: str) -> Raw:
    return {**node, "labels": {**node["labels"], HOSTNAME_LABEL: name}}


def cluster() -> Raw:
    """Return the facts of the first control plane, with all nodes ready."""
    raw = recorded("birch")
    raw["identity"]["serial"] = "S-BEECH"
    found = raw["kubernetes_cluster"]
    plane = {**found["nodes"]["birch"], "fleet": "planes"}
    node = {**found["nodes"]["aspen"], "labels": {}, "taints": [], "fleet": "planes"}
    several = {"beech": plane, "holly": plane, "larch": plane, "spruce": node}
    found["nodes"] = {name: _named(each, name) for name, each in several.items()}
    contents = {name: content(item) for name, item in objects((), ("beech", "holly", "larch")).items()}
    found["objects"] = json.loads(json.dumps(contents))
    found["components"] = {name: ["beech", "holly", "larch"] for name in COMPONENTS}
    return raw


def test_each_component_is_ready_on_all_control_planes() -> None:
    """
    A member of etcd that is lost is a difference before the second one is.
    """
    assert differences(RESOURCES["beech/cluster"], cluster()) == ()
    raw = cluster()
    raw["kubernetes_cluster"]["components"]["etcd"] = ["beech", "larch"]
    plan = planned("beech/cluster", raw)

    assert (plan.steps, [item.path for item in plan.by_hand]) == ((), ["component:etcd.ready_on"])
    assert "etcd stops when half" in plan.by_hand[0].remedy


def test_the_probe_reports_where_components_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def pod(name: str, node: str, ready: str) -> dict[str, Any]:
        return {
            "metadata": {"name": f"{name}-{node}", "labels": {"component": name}},
            "spec": {"nodeName": node},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }

    pods = [pod("etcd", "holly", "True"), pod("etcd", "beech", "True"), pod("kube-scheduler", "holly", "False")]
    nodes = [{"metadata": {"name": name}} for name in ("beech", "holly")]
    monkeypatch.setattr(kubernetes, "query", lambda *argv: {"items": nodes if "nodes" in argv else pods})

    assert kubernetes.components() == {"etcd": ["beech", "holly"], "kube-scheduler": []}


def test_kubelet_of_each_control_plane_has_the_version_of_its_api() -> None:
    hosts = dict(PLANES.fleet.hosts)
    roles = {
        **hosts["larch"].roles,
        "kubernetes_node": {**hosts["larch"].roles["kubernetes_node"], "version": "1.36.4"},
    }
    hosts["larch"] = hosts["larch"].model_copy(update={"roles": roles})
    stack = replace(PLANES, fleet=PLANES.fleet.model_copy(update={"hosts": hosts}))

    assert [each.where for each in version_problems(stack)] == ["hosts.larch.roles.kubernetes_node.version"]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            "[holly, larch]",
            "[holly]",
            "got 2 control planes; 1, 3 or 5: a cluster of etcd lives while more than half of its members do",
        ),
        ("[holly, larch]", "[holly, holly]", "got holly; each control plane is named once"),
        ("[holly, larch]", "[holly, spruce]", "got spruce, without the role kubernetes_control_plane; "),
        ("        endpoint: 10.147.0.10:6443\n", "", "got no endpoint; an address of the API that outlives"),
        ("10.147.0.10:6443", "10.147.0.12:6443", "got the endpoint 10.147.0.12:6443; an address of the API"),
        (
            "{address: 10.147.0.13}",
            "{address: 10.147.0.13, encryption_key: {secret: another}}",
            "got larch, with another encryption_key than beech; control planes of one cluster have the same",
        ),
    ],
    ids=["two", "twice", "without the role", "no endpoint", "an endpoint on one host", "another key"],
)
def test_control_planes_that_would_fail_together_are_refused(tmp_path: Path, old: str, new: str, error: str) -> None:
    path = tmp_path / "fleet.yaml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(DeclarationError) as caught:
        load_fleet(path, STACK.repository.roles)
    assert any(f"{each.problem}; {each.expected}".startswith(error) for each in caught.value.diagnostics), (
        caught.value.diagnostics
    )


# --- the script that invites

KUBEADM = """\
#!/bin/sh
echo "$*" >> "$0.log"
case "$*" in
  "certs certificate-key") printf '%064d\\n' 7 ;;
  *upload-certs*) for config; do :; done; cp "$config" "$0.config" ;;
  *"token create"*) echo "kubeadm join --token abcdef.0123456789abcdef --hash sha256:$(printf '%064d' 9)" ;;
esac
"""


@pytest.fixture
def invitation(tmp_path: Path) -> dict[str, str]:
    """Return what the script of the first control plane prints, and the configuration by which it uploads keys."""
    declared = RESOURCES["beech/kubernetes_control_plane"]
    repository = replace(STACK.repository, secrets={"cluster_encryption": "k" * 32})
    files = {each.file: str(each.content) for each in promises(declared.spec, repository).files}
    (tmp_path / "kubeadm.yaml").write_text(files[f"{further_plane.SETTINGS}/kubeadm.yaml"])
    kubeadm = tmp_path / "bin" / "kubeadm"
    kubeadm.parent.mkdir()
    kubeadm.write_text(KUBEADM)
    kubeadm.chmod(0o755)
    script = further_plane._INVITE.replace(further_plane.SETTINGS, str(tmp_path)).replace("/run", str(tmp_path))
    argv = ["sh", "-c", script, "sh", "holly", "10.147.0.10:6443", "10.147.0.12"]
    path = f"{kubeadm.parent}:/usr/bin:/bin"
    done = subprocess.run(argv, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert "certificate-key 0" not in (kubeadm.parent / "kubeadm.log").read_text(), "no key is an argument"
    return {"join": done.stdout, "init": (kubeadm.parent / "kubeadm.config").read_text()}


def test_the_key_is_in_both_configurations_alone(invitation: dict[str, str]) -> None:
    key = f"{7:064d}"
    assert all(f'certificateKey: "{key}"' in text for text in invitation.values()), "digits alone would be a number"
    assert 'advertiseAddress: "10.147.0.12"' in invitation["join"]
    assert "token: abcdef.0123456789abcdef" in invitation["join"]


@pytest.mark.parametrize("name", ["join", "init"])
def test_kubeadm_accepts_the_configurations_of_a_join(invitation: dict[str, str], tmp_path: Path, name: str) -> None:
    if (built := programs.found_programs()) is None:
        pytest.skip("`rackwright toolchain kubernetes` has not built kubeadm here")
    path = tmp_path / "config.yaml"
    path.write_text(invitation[name])

    done = subprocess.run([built / "kubeadm", "config", "validate", "--config", path], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_three_servers_are_control_planes_and_run_pods(tmp_path: Path) -> None:
    path = tmp_path / "planes.yaml"
    path.write_text(TEXT.replace("nodes: {spruce: {}}", "nodes: {beech: {labels: {rack: a}}, holly: {}}"))
    planes = replace(STACK, fleet=load_fleet(path, STACK.repository.roles))
    resources = {resource.name: resource for resource in declare_unchecked(planes)}
    own = ("beech", "holly", "larch")

    assert [name for name in resources if name.endswith("/node")] == ["holly/node", "larch/node"]
    cluster = next(each.spec for each in resources.values() if isinstance(each.spec, ClusterSpec))
    nodes = {node.name: node for node in cluster.nodes}
    assert {name: node.taints for name, node in nodes.items()} == {
        "beech": (), "holly": (), "larch": ("node-role.kubernetes.io/control-plane:NoSchedule",),
    }  # fmt: skip
    assert nodes["beech"].labels == ("rack=a",)
    order = TopologicalSorter({name: resource.after for name, resource in resources.items()})
    assert {*order.static_order()} >= {f"{name}/kubernetes_node" for name in own}, "no circle"
    clusters = planes.fleet.clusters
    assert cluster_of(("beech", "holly"), clusters) == ("main", clusters["main"])
    assert cluster_of(("larch",), clusters) is None
