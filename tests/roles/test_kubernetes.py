"""The roles kubernetes_node and kubernetes_control_plane: what they refuse, and the files that they write."""

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.core.contract import Absent, Difference
from rackwright.facts.facts import Facts
from rackwright.kinds.role.entries.network import NftablesEntry
from rackwright.kinds.role.entries.services import Certificates
from rackwright.kinds.role.entries.software import PackageEntry
from rackwright.kinds.role.observe import observe_property
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.kinds.role.versions import refuse_skipped_minors
from rackwright.schema.cluster import Team
from rackwright.stack.team_addresses import team_addresses
from rackwright.toolchain.kubernetes import pins, programs
from tests.support.log import ROOT
from tests.support.our_roles import REPOSITORY, ROLES

NODE = {"version": pins.KUBERNETES, "address": "10.0.0.11", "pod_network": "10.244.1.0/24"}
KEY = "a" * 32
REPOSITORY_WITH_KEY = replace(REPOSITORY, secrets={"cluster_snapshots": "s" * 32})
PLANE = {"version": pins.KUBERNETES, "address": "10.0.0.11", "pod_network": "10.244.0.0/16", "encryption_key": KEY}
OTHER = {"address": "10.0.0.12", "pod_network": "10.244.2.0/24"}
SETTINGS = "/etc/rackwright/kubernetes"


def spec(role: str, variables: dict[str, Any]) -> RoleSpec:
    about = AboutHost(name="alpha", os="debian-12", profile="virtual")
    identity = {"serial": "S1"}
    return RoleSpec(
        host="alpha", role=role, identity=identity, about=about, fleet=AboutFleet(name="lab"), variables=variables
    )


def written(role: str, **variables: Any) -> dict[str, str]:
    """Return the files that the role writes, by their path."""
    return {file.file: str(file.content) for file in promises(spec(role, variables), REPOSITORY).files}


def claims(role: str, **variables: Any) -> list[str]:
    """Return the things that the role claims."""
    return [entry.thing for entry in promises(spec(role, variables), REPOSITORY).entries]


def test_a_node_has_a_network_for_its_pods_and_routes_to_those_of_others() -> None:
    files = written("kubernetes_node", **NODE, nodes=[OTHER], service_network="10.96.0.0/12")

    network = json.loads(files["/etc/cni/net.d/10-rackwright.conflist"])
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    routes = files["/usr/local/lib/rackwright/kubernetes-routes"]
    for network in ("10.244.2.0/24", "10.96.0.0/12"):
        assert f"\n{network} 10.0.0.12\n" in routes
    arguments = files["/etc/default/kubelet"].splitlines()[1]
    assert arguments == 'KUBELET_EXTRA_ARGS="--node-ip=10.0.0.11 --hostname-override=alpha"'
    assert "net.ipv4.ip_forward = 1\n" in files["/etc/sysctl.d/61-rackwright-kubernetes.conf"]


def test_a_node_alone_has_no_routes() -> None:
    claimed = claims("kubernetes_node", **NODE)
    assert "unit:rackwright-kubernetes-routes.service" not in claimed
    assert "file:/etc/systemd/system/rackwright-kubernetes-routes.service" in claimed, "it is removed"
    assert written("kubernetes_node", **NODE)["/etc/default/kubelet"].splitlines()[1].endswith('=alpha"')


def test_images_come_from_the_package_or_from_the_vendor() -> None:
    vendor = {"repository": "https://mirror.example/kubernetes/v1.37/", "repository_key": "KEY"}
    built = f"Pin: version {pins.KUBERNETES}-{pins.REVISION}"
    preferences = "/etc/apt/preferences.d/60-rackwright-kubernetes"
    assert "package:kubernetes-images" in claims("kubernetes_node", **NODE)
    assert "package:kubernetes-images" not in claims("kubernetes_node", **NODE, **vendor)
    assert built in written("kubernetes_node", **NODE)[preferences]
    assert f"Pin: version {pins.KUBERNETES}-1.1" in written("kubernetes_node", **NODE, **vendor)[preferences]


@pytest.mark.parametrize(
    ("role", "variables", "wanted"),
    [
        ("kubernetes_node", {**NODE, "version": "1.28.0"}, "version: got 1.28.0; known versions: 1.36.4, 1.37.2"),
        ("kubernetes_node", {**NODE, "nodes": [{**OTHER, "address": "10.0.0.11"}]},
         "nodes: got 10.0.0.11 with the pods 10.244.2.0/24; another node has another address"),
        ("kubernetes_control_plane", {**PLANE, "version": "1.36.0"},
         "version: got 1.36.0; known versions: 1.36.4, 1.37.2"),
        ("kubernetes_control_plane", {**PLANE, "service_network": "10.244.0.0/16"},
         "service_network: got 10.244.0.0/16, as for pods; pods and services have different addresses"),
        ("kubernetes_control_plane", {**PLANE, "audit_days": 0}, "audit_days: got 0; the audit log is kept"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(role: str, variables: dict[str, Any], wanted: str) -> None:
    assert list(ROLES[role].problems("debian-12", variables)) == [], "each is of its type"
    [problem] = refusals(ROLES[role], "debian-12", variables)

    assert f"{'.'.join(map(str, problem.path))}: {problem}".startswith(wanted)


def test_the_control_plane_keeps_secrets_encrypted_and_writes_an_audit_log() -> None:
    files = written("kubernetes_control_plane", **PLANE)
    documents = [*yaml.safe_load_all(files[f"{SETTINGS}/kubeadm.yaml"])]
    cluster = next(each for each in documents if each["kind"] == "ClusterConfiguration")
    options = {each["name"]: each["value"] for each in cluster["apiServer"]["extraArgs"]}
    for option in ("audit-policy-file", "authentication-config", "encryption-provider-config"):
        assert options[option] in files
    [resource] = yaml.safe_load(files[f"{SETTINGS}/encryption.yaml"])["resources"]
    assert (
        resource["providers"][0]["secretbox"]["keys"][0]["secret"]
        == base64.b64encode(sha256(KEY.encode()).digest()).decode()
    )
    assert list(resource["providers"][1]) == ["identity"], "secrets from before are read"
    assert cluster["controlPlaneEndpoint"] == "10.0.0.11:6443"
    assert cluster["apiServer"]["certSANs"] == ["alpha", "10.0.0.11", "127.0.0.1"]


def test_no_content_of_a_secret_is_in_the_audit_log() -> None:
    rules = yaml.safe_load(written("kubernetes_control_plane", **PLANE)[f"{SETTINGS}/audit-policy.yaml"])["rules"]
    [whole] = [rule for rule in rules if rule["level"] == "Request"]
    assert rules.index(whole) > max(number for number, rule in enumerate(rules) if "secrets" in str(rule))
    assert not any(rule["level"] == "RequestResponse" for rule in rules)
    assert [rule["level"] for rule in rules if "secrets" in str(rule)] == ["Metadata"]


def test_only_administrators_choose_the_content_of_the_audit_log() -> None:
    """
    Requests that are refused are in the log too. Their bodies, of 3 MB each, pushed all else out of it.
    """
    rules = yaml.safe_load(written("kubernetes_control_plane", **PLANE)[f"{SETTINGS}/audit-policy.yaml"])["rules"]
    [whole] = [rule for rule in rules if rule["level"] == "Request"]
    assert whole == {"level": "Request", "userGroups": ["system:masters", "kubeadm:cluster-admins"]}
    assert rules[-1] == {"level": "Metadata"}


def test_kubeadm_accepts_the_configuration(tmp_path: Path) -> None:
    if (built := programs.found_programs()) is None:
        pytest.skip("`rackwright toolchain kubernetes` has not built kubeadm here")
    path = tmp_path / "kubeadm.yaml"
    path.write_text(written("kubernetes_control_plane", **PLANE)[f"{SETTINGS}/kubeadm.yaml"])

    done = subprocess.run([built / "kubeadm", "config", "validate", "--config", path], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_the_token_that_kubeadm_makes_by_itself_lives_for_a_minute() -> None:
    init, *_ = yaml.safe_load_all(written("kubernetes_control_plane", **PLANE)[f"{SETTINGS}/kubeadm.yaml"])
    task = (ROOT / "roles/kubernetes_control_plane/tasks/make.yml").read_text()

    assert init["bootstrapTokens"] == [{"ttl": "1m0s"}]
    assert task.count("kubeadm init --config") == task.count("--skip-token-print") == 1


SNAPSHOTS = {**PLANE, "snapshot_directory": "/srv/warm", "snapshot_key": {"secret": "cluster_snapshots"}}


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"snapshot_directory": "/srv/warm"}, "snapshot_key: got no key"),
        ({"snapshot_directory": "/srv/warm", "snapshot_key": "b" * 32}, "snapshot_key: got the key in plain text"),
        ({"snapshot_directory": "/"}, 'snapshot_directory: got "/"'),
        ({"restore": "latest"}, "restore: got latest without a directory of snapshots"),
        ({"snapshots_kept": 0}, "snapshot_hours: got 0 snapshots, each after 6 hours"),
        ({"renewal_days": 365}, "renewal_days: got 365; certificates live for a year"),
    ],
)
def test_snapshots_that_could_not_be_restored_are_refused(variables: dict[str, Any], wanted: str) -> None:
    problems = [
        f"{'.'.join(map(str, problem.path))}: {problem}"
        for problem in refusals(ROLES["kubernetes_control_plane"], "debian-12", {**PLANE, **variables})
    ]
    assert any(problem.startswith(wanted) for problem in problems), problems


def test_without_a_directory_nothing_of_snapshots_is_on_the_host() -> None:
    repository = REPOSITORY_WITH_KEY
    with_them = {entry.thing for entry in promises(spec("kubernetes_control_plane", SNAPSHOTS), repository).entries}
    without = set(claims("kubernetes_control_plane", **PLANE))

    assert with_them - without == {
        "package:restic",
        f"file:{SETTINGS}/snapshot.key",
        "file:/usr/local/sbin/rackwright-kubernetes-snapshot",
        "file:/etc/systemd/system/rackwright-kubernetes-snapshot.service",
        "file:/etc/systemd/system/rackwright-kubernetes-snapshot.timer",
        "unit:rackwright-kubernetes-snapshot.timer",
        "file:/opt/rackwright/etcd/3.7.3-0/etcdctl",
        "file:/opt/rackwright/etcd/3.7.3-0/etcdutl",
        "measure:kubernetes.snapshot_age_hours",
    }
    assert "certificates:kubernetes" in without, "certificates are renewed in any case"


def test_the_key_of_snapshots_is_secret() -> None:
    promised = promises(spec("kubernetes_control_plane", SNAPSHOTS), REPOSITORY_WITH_KEY)
    assert f"{SETTINGS}/snapshot.key" in promised.secret_files


@pytest.mark.parametrize("days", [10.0, 400.0])
def test_certificates_that_expire_soon_are_a_difference(days: float) -> None:
    taken = datetime(2026, 11, 29, tzinfo=UTC)
    ends = {"apiserver": "2027-11-29T00:00:00Z", "ca": "2036-11-29T00:00:00Z"}
    facts = Facts({"taken_at": taken.timestamp(), "kubernetes_certificates": ends})
    entry = Certificates(certificates="kubernetes", days=int(days))
    [name] = entry.want(REPOSITORY)

    expiring = observe_property(facts, "certificates", "kubernetes", name, entry.claim(REPOSITORY))

    assert expiring == (("apiserver",) if days > 365 else ())


def test_a_host_without_a_control_plane_has_no_certificates() -> None:
    entry = Certificates(certificates="kubernetes", days=10)
    [name] = entry.want(REPOSITORY)
    value = observe_property(
        Facts({"kubernetes_certificates": None}), "certificates", "kubernetes", name, entry.claim(REPOSITORY)
    )
    assert value == Absent()


@pytest.mark.parametrize(
    ("installed", "declared", "wanted"),
    [
        ("1.36.4-0rackwright1", "1.37.2-0rackwright1", ""),
        ("1.37.1-1.1", "1.37.2-1.1", ""),
        ("1.35.9-1.1", "1.37.2-1.1", "one minor version at a time: 1.35 or 1.36"),
        ("1.37.2-1.1", "1.36.4-1.1", "1.37.2 or newer"),
        ("1.37.2-1.1", "2.0.0-1.1", "one minor version at a time: 1.37 or 1.38"),
    ],
    ids=["one minor", "a patch", "two minors", "back", "a major"],
)
def test_an_upgrade_goes_by_one_minor_version(installed: str, declared: str, wanted: str) -> None:
    entry = PackageEntry(package="kubelet", version=declared, one_minor=True)
    differences = [Difference("package:kubelet", "version", declared, installed)]

    refused = [each.expected for each in refuse_skipped_minors("alpha/kubernetes_node", [entry], differences)]

    assert refused == ([wanted] if wanted else [])
    assert not refuse_skipped_minors("alpha/x", [entry.model_copy(update={"one_minor": False})], differences)


def test_a_host_without_kubelet_gets_any_version() -> None:
    entry = PackageEntry(package="kubelet", version="1.37.2-1.1", one_minor=True)
    differences = [Difference("package:kubelet", "version", "1.37.2-1.1", Absent())]
    assert not refuse_skipped_minors("alpha/kubernetes_node", [entry], differences)


FAKE = """\
#!/bin/sh
# kubectl of a node whose pods go when they are evicted
echo "$*" >> "$0.log"
case "$*" in
  *"get pods"*) cat "$0.pods" ;;
  *eviction*) echo '{"items": []}' > "$0.pods" ;;
esac
"""
"""Program in the place of kubectl."""


def pod(
    name: str, *owners: str, phase: str = "Running", volumes: Sequence[object] = (), **meta: object
) -> dict[str, object]:
    """Return a pod as the API has it; the first of *owners*, each apiVersion and kind, controls it."""
    references = [
        dict(zip(("apiVersion", "kind"), each.split("|"), strict=True), controller=each == owners[0]) for each in owners
    ]
    metadata = {"namespace": "vision", "name": name, "ownerReferences": references, **meta}
    return {"metadata": metadata, "spec": {"volumes": list(volumes)}, "status": {"phase": phase}}


SET, DAEMONS = "apps/v1|ReplicaSet", "apps/v1|DaemonSet"
MEMORY, DISK = {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}, {"emptyDir": {}}


@pytest.mark.parametrize(
    ("pods", "kept"),
    [
        ([pod("web-1", SET), pod("kube-proxy-x", DAEMONS, namespace="kube-system")], ""),
        ([pod("web-1", SET, volumes=[MEMORY])], ""),
        ([pod("done", "batch/v1|Job", phase="Succeeded", volumes=[DISK])], ""),
        ([pod("web-1", SET, volumes=[DISK])], "vision/web-1"),
        ([pod("web-1", SET, volumes=[MEMORY, DISK])], "vision/web-1"),
        ([pod("alone")], "vision/alone"),
        ([pod("alone", "x|DaemonSet", volumes=[DISK])], "vision/alone"),
        ([pod("alone", SET, DAEMONS, volumes=[DISK])], "vision/alone"),
        ([pod("alone", "apps/v1|DaemonSet\n", volumes=[DISK])], "vision/alone"),
        ([pod("alone", "x|a\nkube-system web-1 moves", volumes=[DISK])], "vision/alone"),
    ],
    ids=["controlled", "memory", "finished", "data", "memory and data", "no controller", "another kind of that name",
         "an owner that does not control", "a line break", "lines of others"],
)  # fmt: skip
def test_a_drain_moves_pods_that_lose_nothing(tmp_path: Path, pods: list[dict[str, object]], kept: str) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(FAKE)
    kubectl.chmod(0o755)
    (tmp_path / "kubectl.pods").write_text(json.dumps({"items": pods}))
    script = written("kubernetes_node", **NODE)["/etc/rackwright/drain.d/50-kubernetes"]
    joined = tmp_path / "kubelet.conf"
    joined.touch()
    script = script.replace("/etc/kubernetes/kubelet.conf", str(joined))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}

    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)

    asked = (tmp_path / "kubectl.log").read_text()
    assert (done.returncode, "uncordon alpha" in asked) == ((1, True) if kept else (0, False)), done.stderr
    assert asked.startswith("cordon alpha\n")
    assert f"/pods/{kept.rpartition('/')[2]}/eviction" not in asked if kept else "DaemonSet" not in asked
    if kept:
        assert kept in done.stderr
    elif "Running" in str(pods):
        assert "/api/v1/namespaces/vision/pods/web-1/eviction" in asked
        assert "kube-proxy" not in asked


def test_a_drain_of_a_host_without_a_cluster_does_nothing(tmp_path: Path) -> None:
    script = written("kubernetes_node", **NODE)["/etc/rackwright/drain.d/50-kubernetes"]
    script = script.replace("/etc/kubernetes/kubelet.conf", str(tmp_path / "missing"))
    assert subprocess.run(["/bin/sh", "-c", script], env={"PATH": str(tmp_path)}).returncode == 0


TEAMS = [
    {"name": "", "first": "10.244.1.2", "last": "10.244.1.15", "networks": ["10.244.1.0/28", "10.244.2.0/28"]},
    {"name": "vision", "first": "10.244.1.16", "last": "10.244.1.31", "networks": ["10.244.1.16/28", "10.244.2.16/28"]},
]


def test_addresses_of_a_team_are_a_slice_of_each_pod_network() -> None:
    teams = {"vision": Team(cpus=1, memory="1GiB", slice=1), "speech": Team(cpus=1, memory="1GiB")}

    assert team_addresses(teams, "10.244.1.0/24", ["10.244.2.0/24"]) == TEAMS
    assert team_addresses({"speech": teams["speech"]}, "10.244.1.0/24", []) == [], "no team is isolated"
    last = team_addresses({"last": Team(cpus=1, memory="1GiB", slice=15)}, "10.244.1.0/24", [])[-1]
    assert (last["first"], last["last"]) == ("10.244.1.240", "10.244.1.254"), "the last address is the broadcast's"


@pytest.mark.parametrize(
    ("namespace", "first"), [("vision", "10.244.1.16"), ("speech", "10.244.1.2"), (None, "10.244.1.2")]
)
def test_a_pod_gets_an_address_of_its_team(tmp_path: Path, namespace: str | None, first: str) -> None:
    files = written("kubernetes_node", **NODE, teams=TEAMS)
    plugin, asked = tmp_path / "rackwright-teams", tmp_path / "asked"
    plugin.write_text(files["/usr/local/lib/cni/rackwright-teams"])
    (tmp_path / "host-local").write_text(f"#!/bin/sh\ncat > {asked}\n")
    for path in (plugin, tmp_path / "host-local"):
        path.chmod(0o755)
    config = json.loads(files["/etc/cni/net.d/10-rackwright.conflist"])["plugins"][0]
    assert config["ipam"]["type"] == "rackwright-teams"
    arguments = "IgnoreUnknown=1;" + (f"K8S_POD_NAMESPACE={namespace};" if namespace else "") + "K8S_POD_NAME=web"

    subprocess.run([plugin], input=json.dumps(config), env={"CNI_ARGS": arguments}, text=True, check=True)

    ipam = json.loads(asked.read_text())["ipam"]
    assert (ipam["type"], ipam["routes"], "teams" in ipam) == ("host-local", [{"dst": "0.0.0.0/0"}], False)
    [[given]] = ipam["ranges"]
    assert (given["subnet"], given["rangeStart"]) == ("10.244.1.0/24", first)


def test_the_rules_of_isolation_are_those_of_the_claim() -> None:
    promised = promises(spec("kubernetes_node", {**NODE, "teams": TEAMS}), REPOSITORY)
    [entry] = [each for each in promised.entries if isinstance(each, NftablesEntry)]
    [text] = [str(file.content) for file in promised.files if file.file.endswith(".nft")]
    both = "{ 10.244.1.16/28, 10.244.2.16/28 }"
    rules = [line.strip() for line in text.splitlines() if " accept" in line or "counter" in line]

    hooks = {
        "forward": ("forward", 0),
        "input": ("input", 0),
        "prerouting": ("prerouting", -300),
        "tracked": ("prerouting", -150),
    }
    assert entry.rules[:4] == tuple(
        f"{chain}: filter hook {hook} priority {priority} policy accept" for chain, (hook, priority) in hooks.items()
    )
    rules = [rule for rule in rules if "policy" not in rule]
    assert rules[:2] == [f"meta {way}ifname veth* meta nfproto ipv6 counter drop" for way in "io"]
    assert f"ip saddr {both} ip daddr {both} accept" in rules
    assert f"ip saddr {both} ip daddr {{ 10.244.1.0/28, 10.244.2.0/28 }} udp dport 53 accept" in rules
    assert "ip saddr 10.244.1.0/24 fib saddr . iif oif missing counter drop" in rules
    assert rules[-1] == f"ip saddr {both} ct state new add @pods {{ ip saddr ct count over 8192 }} counter drop"
    assert len(rules) == len(entry.rules) - 4


def link_of_the_plugin(**variables: Any) -> dict[str, Any]:
    [entry] = [
        entry
        for entry in promises(spec("kubernetes_node", {**NODE, **variables}), REPOSITORY).entries
        if entry.thing == "file:/usr/lib/cni/rackwright-teams"
    ]
    return dict(entry.want(REPOSITORY))


def test_the_link_of_the_plugin_that_knows_teams_is_a_claim() -> None:
    """
    Without it no pod starts on the host.
    """
    assert link_of_the_plugin(teams=TEAMS) == {"content": "-> /usr/local/lib/cni/rackwright-teams"}


def test_without_isolated_teams_nodes_have_no_rules_of_their_own() -> None:
    assert not [name for name in claims("kubernetes_node", **NODE) if "teams" in name and not name.startswith("file:")]
    assert "rackwright-teams" not in written("kubernetes_node", **NODE)["/etc/cni/net.d/10-rackwright.conflist"]
    assert link_of_the_plugin() == {"present": False}
    small = {**NODE, "pod_network": "10.244.1.0/26", "teams": TEAMS}
    [problem] = refusals(ROLES["kubernetes_node"], "debian-12", small)
    assert str(problem).startswith("got 10.244.1.0/26 with teams that have slices")
