"""The table of role prometheus in a real kernel: Prometheus and root alone reach the proxies from their host."""

from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import nftables
from rackwright.kinds.role.promise import promises
from tests.support.monitoring import spec
from tests.support.net_namespaces import Namespace, join, namespaces
from tests.support.our_roles import REPOSITORY
from tests.support.packet_filters import HOST4, HOST6, OTHER4, OTHER6, PROXIES, PROXY_TARGETS, STAND_IN, load, rendered

TABLE = "rackwright_prometheus"


def test_prometheus_alone_reaches_the_proxies_from_its_host_and_pods_of_it_do_not(tmp_path: Path) -> None:
    [text] = rendered()[PROXIES]
    with namespaces(tmp_path, "pod", "host", "other") as made:
        network(made)
        made["host"].listen(tcp=[9443, 22])
        made["other"].listen(tcp=[9443, 9444, 22])
        load(made["host"], text)
        proxies = {("127.0.0.1", 9443), (OTHER4, 9443), (OTHER6, 9444)}
        further = {("127.0.0.1", 22), (OTHER4, 22), (OTHER6, 22)}

        assert made["host"].connects([*proxies, *further]) == proxies | further, "root"
        assert made["host"].connects([*proxies, *further], account=STAND_IN) == proxies | further, "Prometheus"
        assert made["host"].connects([*proxies, *further], account="nobody") == further, "another account"
        assert made["pod"].connects([(OTHER4, 9443), (OTHER6, 9444)]) == set(), "a pod"
        assert made["pod"].connects([(OTHER4, 22), (OTHER6, 22)]) == {(OTHER4, 22), (OTHER6, 22)}


@pytest.mark.parametrize("targets", [[], PROXY_TARGETS[:1], PROXY_TARGETS[3:], PROXY_TARGETS])
def test_the_claimed_rules_are_those_that_the_kernel_lists(targets: list[dict[str, str]], tmp_path: Path) -> None:
    made = promises(spec("prometheus", targets=targets), REPOSITORY)
    [text] = [str(file.content) for file in made.files if file.file.endswith("/clients.nft")]
    [claim] = [entry.claim(REPOSITORY) for entry in made.entries if entry.thing == f"nftables:{TABLE}"]
    with namespaces(tmp_path, "host") as hosts:
        listed = load(hosts["host"], text.replace("{ prometheus,", f"{{ {STAND_IN},"))

    wanted = tuple(line.replace("{ prometheus,", f"{{ {STAND_IN},") for line in claim.want["rules"])  # type: ignore[union-attr]
    assert facts(listed).nftables_table(TABLE) == wanted


def network(made: dict[str, Namespace]) -> None:
    """Connect the pod with the host, and the host with the other one; the host forwards packets of the pod."""
    join(made["pod"], "eth0", made["host"], "veth0")
    join(made["host"], "fabric0", made["other"], "fabric0")
    made["pod"].ip(
        "address add 10.8.0.2/24 dev eth0", "address add fd00:8::2/64 dev eth0 nodad",
        "route add default via 10.8.0.1", "route add default via fd00:8::1",
    )  # fmt: skip
    made["host"].ip(
        "address add 10.8.0.1/24 dev veth0", "address add fd00:8::1/64 dev veth0 nodad",
        f"address add {HOST4}/24 dev fabric0", f"address add {HOST6}/64 dev fabric0 nodad",
    )  # fmt: skip
    made["other"].ip(
        f"address add {OTHER4}/24 dev fabric0", f"address add {OTHER6}/64 dev fabric0 nodad",
        f"route add 10.8.0.0/24 via {HOST4}", f"route add fd00:8::/64 via {HOST6}",
    )  # fmt: skip
    made["host"].run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


def facts(listed: list[dict[str, Any]]) -> Facts:
    return Facts({"nftables": {TABLE: nftables.stable([each for each in listed if {*each} & {"chain", "rule"}])}})
