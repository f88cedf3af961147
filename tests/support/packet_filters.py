"""Every packet filter that rackwright renders: its template, its texts with values, and the rules in the kernel."""

import fcntl
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from rackwright.kinds.model_server.spec import ReplicaPlace
from rackwright.kinds.shared import firewall
from rackwright.kinds.shared.firewall import Firewall
from rackwright.kinds.training_run.spec import TrainingSpec
from rackwright.schema.vllm import Vllm
from tests.support.expect import eventually
from tests.support.log import ROOT
from tests.support.model_server_spec import REPOSITORY, SPEC
from tests.support.monitoring import files
from tests.support.net_namespaces import Namespace
from tests.support.pod_network import node_files
from tests.support.recorded_hosts import RESOURCES
from tests.support.specs import changed

RULES = re.compile(r"(?m)^\s*(add |create )?table (inet|ip6?|bridge|netdev|arp) |\b(ip6?|eb|arp)tables(-restore)? -")
"""Lines of rules of nftables, or of the older programs."""
TEAMS = "roles/kubernetes_node/templates/etc/rackwright/kubernetes-teams.nft.j2"
PROXIES = "roles/prometheus/templates/etc/rackwright/prometheus/clients.nft.j2"
UNIT = "templates/firewall/etc/firewall.nft.j2"
UNIFIED = next((path for path in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if path.is_dir()), Path("/"))
HOST4, OTHER4, HOST6, OTHER6 = "10.9.0.1", "10.9.0.2", "fd00:9::1", "fd00:9::2"
STAND_IN = "daemon"
"""The account that stands for Prometheus' own: the package need not be installed here."""
PROXY_TARGETS = [
    {"job": "node", "instance": "gpu-01", "address": "127.0.0.1:9443", "path": "/node"},
    {"job": "proxy", "instance": "gpu-01", "address": "127.0.0.1:9443", "path": "/proxy"},
    {"job": "node", "instance": "gpu-02", "address": f"{OTHER4}:9443", "path": "/node"},
    {"job": "node", "instance": "gpu-03", "address": "[FD00:9:0::2]:9444", "path": "/node"},
]


def templates() -> set[str]:
    """Return the paths of the templates and programs of the suite that have rules of a packet filter."""
    several = [*ROOT.glob("templates/**/*.j2"), *ROOT.glob("roles/*/templates/**/*.j2")]
    several += [*ROOT.glob("rackwright/**/*.j2"), *ROOT.glob("rackwright/**/*.sh"), *ROOT.glob("roles/*/tasks/*.yml")]
    return {str(path.relative_to(ROOT)) for path in several if path.is_file() and RULES.search(path.read_text())}


def firewalls() -> Mapping[str, Firewall]:
    """Return the table of each sort of unit that has one."""
    replica = {"vllm": Vllm(replica_hosts=2), "set": {}}
    places = {
        "a replica, leader": ReplicaPlace(addresses=(HOST4, OTHER4), rank=0, interface="fabric0"),
        "a replica, worker": ReplicaPlace(addresses=(OTHER4, HOST4), rank=1, interface="fabric0"),
        "a replica by IPv6": ReplicaPlace(addresses=(HOST6, OTHER6), rank=0, interface="fabric0"),
        "a replica of other hosts": ReplicaPlace(addresses=(HOST4, "10.9.0.77"), rank=0, interface="fabric0"),
    }
    tables = {name: changed(SPEC, **replica, replica=place).firewall for name, place in places.items()}
    tables["a server on one host"] = changed(SPEC, vllm=Vllm()).firewall
    for run in (each.spec for each in RESOURCES.values() if isinstance(each.spec, TrainingSpec)):
        is_launcher = run.host == run.launcher_host.name
        own, other = (HOST4, OTHER4) if is_launcher else (OTHER4, HOST4)
        hosts = tuple(each.model_copy(update={"address": at}) for each, at in zip(run.hosts, (own, other), strict=True))
        tables["a run, launcher" if is_launcher else "a run, worker"] = run.model_copy(update={"hosts": hosts}).firewall
        alone = tuple(each.model_copy(update={"address": "localhost"}) for each in run.hosts if each.name == run.host)
        tables["a run on one host"] = run.model_copy(update={"hosts": alone}).firewall
    return {name: table for name, table in tables.items() if table is not None}


def rendered() -> dict[str, list[str]]:
    """Return the texts of each template with rules, with values for each of its forms."""
    teams = [node_files(name)["/etc/rackwright/kubernetes-teams.nft"] for name in ("alpha", "beta")]
    own = files("prometheus", targets=PROXY_TARGETS)["/etc/rackwright/prometheus/clients.nft"]
    proxies = [str(own.content).replace("{ prometheus,", f"{{ {STAND_IN},")]
    return {TEAMS: teams, PROXIES: proxies, UNIT: [firewall.text(each, REPOSITORY) for each in firewalls().values()]}


@contextmanager
def control_group(unit: str) -> Iterator[Path]:
    """Yield the control group of *unit*, at the level at which systemd has it; one test at a time has it."""
    group = UNIFIED / "system.slice" / unit
    with Path(gettempdir(), f"rackwright-tests-{unit}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        group.mkdir(parents=True, exist_ok=True)
        try:
            yield group
        finally:
            eventually(lambda: not (group / "cgroup.procs").read_text(), f"{unit} has no process", 10)
            group.rmdir()


def load(namespace: Namespace, text: str) -> list[dict[str, Any]]:
    """Load rules into *namespace*, where nft finds control groups as on a host, and return what nft lists."""
    script = f"mount --bind {UNIFIED} /sys/fs/cgroup && nft -f - && nft --json --guid list ruleset"
    objects: list[dict[str, Any]] = json.loads(namespace.run("unshare", "--mount", "sh", "-euc", script, input=text))[
        "nftables"
    ]
    return objects


def one_sided(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the rules that close something to addresses of one family, while their chain lets the other one pass.

    The other family is closed by the policy of the chain, by a rule without addresses, or by the same rule about
    destinations of that family.
    """
    chains = {each["chain"]["name"]: each["chain"] for each in objects if "chain" in each}
    rules = [each["rule"] for each in objects if "rule" in each]
    wrong = []
    for rule in rules:
        missing = {"ipv4", "ipv6"} - _families(rule)
        others = [each for each in rules if each["chain"] == rule["chain"] and _drops(each) and _closes_to_hosts(each)]
        others += [each for each in rules if _drops(each) and _about(each) == _about(rule) is not None]
        closed = set[str]().union(*map(_families, others)) if others else set[str]()
        if _drops(rule) and _has_address(rule) and missing - closed and chains[rule["chain"]].get("policy") != "drop":
            wrong.append(f"{rule['chain']}: {json.dumps(rule['expr'])}")
    return wrong


def _matches(rule: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each["match"] for each in rule["expr"] if "match" in each]


def _closes_to_hosts(rule: Mapping[str, Any]) -> bool:
    """Return whether *rule* has no address, and is for packets of other hosts too."""
    return not _has_address(rule) and not any(match["right"] == "lo" for match in _matches(rule))


def _drops(rule: Mapping[str, Any]) -> bool:
    return any("drop" in each or "reject" in each for each in rule["expr"])


def _protocols(rule: Mapping[str, Any]) -> set[str]:
    return {match["left"]["payload"]["protocol"] for match in _matches(rule) if "payload" in match["left"]}


def _has_address(rule: Mapping[str, Any]) -> bool:
    return bool(_protocols(rule) & {"ip", "ip6"})


def _about(rule: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the chain of a rule about destinations, and all that it says beside these; None for another rule."""
    matches = _matches(rule)
    destinations = [match for match in matches if match["left"].get("payload", {}).get("field") == "daddr"]
    return (rule["chain"], repr([each for each in matches if each not in destinations])) if destinations else None


def _families(rule: Mapping[str, Any]) -> set[str]:
    """Return the families of the packets that a rule can match."""
    families = {"ipv4", "ipv6"}
    for match in _matches(rule):
        if match["left"] == {"meta": {"key": "nfproto"}}:
            families &= {match["right"]} if match["op"] == "==" else families - {match["right"]}
    protocols = _protocols(rule)
    families -= {"ipv6"} if protocols & {"ip", "icmp"} else set()
    return families - ({"ipv4"} if protocols & {"ip6", "icmpv6"} else set())
