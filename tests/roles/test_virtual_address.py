"""The role virtual_address: what it refuses, its configuration, which keepalived itself checks, and its check."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.debian_programs import debian_program, link_debian_libraries
from tests.support.our_roles import REPOSITORY, ROLES

MEMBERS = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
VARIABLES = {
    "address": "10.0.0.10",
    "interface": "lo",
    "own": "10.0.0.12",
    "members": MEMBERS,
    "check_url": "https://127.0.0.1:6443/livez",
}


def written(**variables: Any) -> dict[str, str]:
    """Return the files that the role writes, by their names."""
    spec = RoleSpec(
        host="alpha",
        role="virtual_address",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables={**VARIABLES, **variables},
    )
    return {Path(file.file).name: str(file.content) for file in promises(spec, REPOSITORY).files}


def priority(own: str) -> int:
    [found] = re.findall(r"^ +priority (\d+)$", written(own=own)["keepalived.conf"], re.MULTILINE)
    return int(found)


def test_a_host_whose_service_answers_comes_before_each_one_whose_service_does_not() -> None:
    priorities = [priority(own) for own in MEMBERS]
    [weight] = re.findall(r"weight (-\d+)", written()["keepalived.conf"])

    assert priorities == sorted(priorities, reverse=True) and len({*priorities}) == len(MEMBERS)
    assert priorities[0] + int(weight) < priorities[-1]


def test_the_other_members_are_its_peers() -> None:
    text = written()["keepalived.conf"]

    assert re.findall(r"unicast_peer \{\n +(\S+)\n +(\S+)\n +\}", text) == [("10.0.0.11", "10.0.0.13")]
    assert "unicast_src_ip 10.0.0.12\n" in text
    assert "10.0.0.10/32 dev lo scope link\n" in text, "addresses of global scope are those of the host's network"


@pytest.mark.parametrize(("router", "messages"), [(51, False), (0, True)])
def test_keepalived_takes_it(tmp_path: Path, router: int, messages: bool) -> None:
    """
    Debian's version ends its own check by SIGTERM if scripts have an account: its messages say whether all is well.

    Source: acassen/keepalived#2587
    """
    path = tmp_path / "keepalived.conf"
    links = [name for _, name in socket.if_nameindex() if name != "lo"]
    if not links:
        pytest.skip("keepalived wants a link that is no loopback, and this computer has none")
    text = written(interface=links[0], router=router)["keepalived.conf"]
    path.write_text(text.replace("/usr/local/sbin/rackwright-virtual-address", "/bin/true"))
    program = debian_program("keepalived", "keepalived")

    link_debian_libraries(tmp_path / "lib", "libnl-genl-3-200", "libnftnl11", "libsnmp40", "libsensors5", "libpci3")

    done = subprocess.run(
        [program, f"--config-test={tmp_path}/log", "--use-file", path],
        env={"LD_LIBRARY_PATH": str(tmp_path / "lib")},
        start_new_session=True,
    )

    assert done.returncode in (0, -signal.SIGTERM, 4)
    assert bool((tmp_path / "log").read_text()) == messages


@contextmanager
def service(status: int) -> Iterator[str]:
    """Yield the URL of a server that answers with *status*."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/livez"
        finally:
            server.shutdown()
            thread.join()


def check(url: str) -> int:
    text = written(check_url=url)["rackwright-virtual-address"]
    return subprocess.run([sys.executable, "-I", "-c", text]).returncode


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (500, 1), (401, 1)])
def test_only_a_good_answer_counts(status: int, expected: int) -> None:
    with service(status) as url:
        assert check(url) == expected


def test_a_service_that_does_not_answer_is_not_ready() -> None:
    with service(200) as url:
        pass
    assert check(url) == 1


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"address": ""}, "address: got no address"),
        ({"address": "2001:db8::1"}, "address: got 2001:db8::1; an IPv4 address"),
        ({"address": "10.0.0.11"}, "address: got 10.0.0.11, which is one of the members"),
        ({"own": "10.0.0.14"}, "own: got 10.0.0.14; one of members"),
        ({"members": ["10.0.0.12"]}, 'members: got ["10.0.0.12"]; the addresses of 2 to 9 hosts'),
        ({"check_url": ""}, "check_url: got none"),
        ({"interface": "a b"}, 'interface: got "a b"'),
        ({"router": 256}, "router: got 256"),
    ],
)
def test_what_cannot_be_is_refused(variables: dict[str, Any], wanted: str) -> None:
    problems = [
        f"{'.'.join(map(str, problem.path))}: {problem}"
        for problem in refusals(ROLES["virtual_address"], "debian-12", {**VARIABLES, **variables})
    ]
    assert any(problem.startswith(wanted) for problem in problems), problems
