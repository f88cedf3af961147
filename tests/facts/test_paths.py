"""The ways to peers: what is asked for and found, over ways that are made up, and over those of a real kernel."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.facts.probe import paths
from rackwright.facts.probe.observe import ReadError
from tests.support.fabricated_machine import FabricatedMachine

ROOT = Path(__file__).parents[2]
SIZES = st.integers(min_value=576, max_value=9216)


class Way:
    """Answers to echoes of up to *takes* bytes, but for those whose numbers are *lost*."""

    def __init__(self, takes: int, lost: set[int] = frozenset()) -> None:
        self.takes, self.lost, self.sent = takes, lost, 0

    def send(self, sizes: dict[paths.PeerPath, list[int]], seconds: float) -> None:
        for path, several in sizes.items():
            for size in several:
                self.sent += 1
                if size <= self.takes and self.sent not in self.lost:
                    path.largest_passed = max(path.largest_passed, size)


def measured(size: int, way: Way) -> object:
    path = paths.PeerPath("198.51.100.11", "198.51.100.12", size)
    paths.measure([path], way.send)
    return path.result()


@given(SIZES, SIZES)
def test_the_largest_size_that_passes_is_found_to_the_byte(size: int, takes: int) -> None:
    assert measured(size, Way(takes)) == {"asked": size, "passed": min(size, takes)}


@given(SIZES, st.sets(st.integers(min_value=1, max_value=3)))
def test_what_was_lost_by_chance_is_asked_for_again(size: int, lost: set[int]) -> None:
    """
    Whatever is lost of the first three echoes, the whole size among them.
    """
    assert measured(size, Way(size, lost)) == {"asked": size, "passed": size}


@given(SIZES, SIZES, st.integers(min_value=1, max_value=paths.ROUNDS), st.integers(min_value=1, max_value=70))
def test_answers_that_come_late_hide_no_size(size: int, takes: int, late_round: int, late: int) -> None:
    """
    A host with much work answers the *late* largest echoes of one round of the search too late. Before, the result was
    a smaller size than the way takes.
    """

    class Late(Way):
        rounds = 0

        def send(self, sizes: dict[paths.PeerPath, list[int]], seconds: float) -> None:
            if seconds < paths.SECONDS:
                self.rounds += 1
                if self.rounds == late_round:
                    sizes = {path: several[:-late] for path, several in sizes.items()}
            super().send(sizes, seconds)

    assert measured(size, Late(takes)) == {"asked": size, "passed": min(size, takes)}


def test_a_way_that_holds_costs_two_echoes_and_a_peer_that_is_silent_four() -> None:
    holds, silent = Way(9000), Way(0)

    measured(9000, holds)
    assert measured(9000, silent) == {"unknown": "198.51.100.12 does not answer"}
    assert (holds.sent, silent.sent) == (2, 4)


def test_without_a_list_nothing_is_asked_and_all_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="there is no /etc/rackwright/peers"):
        paths.paths(FabricatedMachine(tmp_path).top)


def test_the_list_has_comments_and_words_for_people(tmp_path: Path) -> None:
    machine = FabricatedMachine(tmp_path)
    machine.write(paths.PEERS[1:], "# by hand\n198.51.100.11 198.51.100.12 9000 gpu-02\n2001:db8::1 2001:db8::2 1500\n")

    assert [(path.own, path.peer, path.size) for path in paths.read_peers(machine.top)] == [
        ("198.51.100.11", "198.51.100.12", 9000),
        ("2001:db8::1", "2001:db8::2", 1500),
    ]


def test_who_may_send_no_echoes_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(socket, "socket", refuse)
    machine = FabricatedMachine(tmp_path)
    machine.write(paths.PEERS[1:], "127.0.0.1 127.0.0.2 1500\n")

    assert paths.paths(machine.top) == {
        "127.0.0.2": {"unknown": "nothing can be sent from 127.0.0.1: Operation not permitted"}
    }


NETWORKS = """\
set -e
unshare --net sleep 600 &
peer=$!
trap 'kill $peer' EXIT
until [ "$(readlink /proc/$peer/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
there() { nsenter --target $peer --net "$@"; }
reaches() { ip -6 route get 2001:db8:$1::2 from 2001:db8:$1::1 && there ip -6 route get 2001:db8:$1::1; }
join() { # number, own MTU, the peer's
  ip link add here$1 type veth peer name there$1 netns $peer
  ip address add 10.0.$1.1/24 dev here$1
  ip address add 2001:db8:$1::1/64 dev here$1 nodad
  there ip address add 10.0.$1.2/24 dev there$1
  there ip address add 2001:db8:$1::2/64 dev there$1 nodad
  ip link set here$1 mtu $2 up
  there ip link set there$1 mtu $3 up
  until reaches $1 > /dev/null 2>&1; do :; done
}
join 1 9000 9000
join 2 9000 1500
join 3 4000 9000
join 4 9000 9000
there ip route change 10.0.4.0/24 dev there4 mtu 1400
there ip -6 route add 2001:db8:4::1 dev there4 mtu 1300
"$1" -c 'import json, sys; from rackwright.facts.probe import paths; print(json.dumps(paths.paths(sys.argv[1])))' "$2"
"""
"""Joins two network namespaces by cables, of which the last takes answers apart on their way back, then looks."""
LIST = """\
10.0.1.1 10.0.1.2 9000
10.0.2.1 10.0.2.2 9000
10.0.3.1 10.0.3.2 9000
10.0.4.1 10.0.4.2 9000
2001:db8:1::1 2001:db8:1::2 9000
2001:db8:2::1 2001:db8:2::2 9000
2001:db8:3::1 2001:db8:3::2 9000
2001:db8:4::1 2001:db8:4::2 9000
10.0.1.1 10.0.1.3 9000
10.0.1.1 10.9.9.9 9000
10.0.1.9 10.0.1.4 9000
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes networks")
def test_a_real_kernel_s_ways_take_what_their_worse_direction_takes(tmp_path: Path) -> None:
    """
    Whoever drops or takes apart: the peer's link, this host's, or the peer as it answers; in both families alike.
    """
    FabricatedMachine(tmp_path).write(paths.PEERS[1:], LIST)

    argv = ["unshare", "--net", "sh", "-c", NETWORKS, "sh", sys.executable, str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    passed = {peer: path["passed"] for peer, path in found.items() if "passed" in path}
    assert passed == {
        "10.0.1.2": 9000,
        "10.0.2.2": 1500,
        "10.0.3.2": 4000,
        "10.0.4.2": 1400,
        "2001:db8:1::2": 9000,
        "2001:db8:2::2": 1500,
        "2001:db8:3::2": 4000,
        "2001:db8:4::2": 1300,
    }
    assert {peer: path["unknown"] for peer, path in found.items() if "unknown" in path} == {
        "10.0.1.3": "10.0.1.3 does not answer",
        "10.9.9.9": "nothing can be sent to 10.9.9.9: Network is unreachable",
        "10.0.1.4": "nothing can be sent from 10.0.1.9: Cannot assign requested address",
    }
