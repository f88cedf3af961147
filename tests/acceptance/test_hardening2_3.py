"""Second hardening, line 3: pods of an isolated team reach their team and the cluster's names, by no family more."""

import os
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.pod_network import BRIDGE, NEW, PLUGINS, check, pod_network

WEAKENED = {
    "the rules about IPv6": "nfproto ipv6",
    "the rules about addresses of others": "fib",
    "the rules about other teams and the node": "ip [sd]addr (?!.*fib).* counter drop",
}
"""Parts of the table, by patterns of their lines: without each of them something is reached."""


@line("hardening2", 3)
def test_isolated_teams_are_apart_by_both_families_and_with_forged_addresses(log: Log) -> str:
    """Two nodes of namespaces, the rendered table, the real CNI plugins: TCP, UDP, fragments, forged sources."""
    if os.geteuid() != 0 or not (PLUGINS / "ptp").exists():
        pytest.skip("network namespaces need root, and the network of pods containernetworking-plugins")
    directory = log.empty_directory()
    log("as earlier versions had it: one bridge, and rules about IPv4 alone")
    with pod_network(_new(directory, "earlier"), plugin=BRIDGE["type"], rules=NEW) as network:
        before = check(network)
    log.write("\n".join(before.wrong))
    need(before.wrong != (), "the check finds nothing in the earlier network")
    log("as it is rendered now")
    with pod_network(_new(directory, "now")) as network:
        now = check(network)
    need(now.wrong == (), f"{len(now.wrong)} of {now.cases}: {'; '.join(now.wrong[:5])}")
    for number, (name, pattern) in enumerate(WEAKENED.items()):
        log(f"without {name}")
        with pod_network(_new(directory, f"weakened-{number}"), rules=pattern) as network:
            weakened = check(network)
        need(weakened.wrong != (), f"the check does not find that {name} are missing")
    return (
        f"{now.cases} paths, none wrong; of {before.cases} in the network of earlier versions {len(before.wrong)}; "
        f"each of {len(WEAKENED)} parts of the table is missed"
    )


def _new(directory: Path, name: str) -> Path:
    (directory / name).mkdir()
    return directory / name
