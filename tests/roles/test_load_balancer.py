"""The role load_balancer: what it refuses, and the configuration of nginx, which nginx itself checks."""

import json
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.debian_programs import debian_program
from tests.support.expect import eventually
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["load_balancer"]
MEMBERS = ["10.0.0.11:8080", "10.0.0.12:8080"]
SERVICES = {"digits": {"port": 8080, "members": MEMBERS}}
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


METRICS = "unix:/run/rackwright-load-balancer/metrics.sock"
"""Place of the metrics, in a directory of nginx's account alone."""


def config(**variables: Any) -> str:
    """Return what nginx reads."""
    spec = RoleSpec(
        host="alpha",
        role="load_balancer",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables={"services": SERVICES, **variables},
    )
    [found] = [file.content for file in promises(spec, REPOSITORY).files if file.file.endswith("/nginx.conf")]
    return str(found)


def test_it_listens_on_the_declared_address_alone_and_knows_all_members():
    text = config(address="10.0.0.10")

    assert re.findall(r"listen (.*);", text) == [METRICS, "10.0.0.10:8080"]
    assert re.findall(r"server (10\..*);", text) == [f"{each} max_fails=1 fail_timeout=2s" for each in MEMBERS]


def test_what_a_member_did_not_answer_is_asked_of_another_once():
    text = config()

    assert "proxy_next_upstream error timeout non_idempotent;" in text
    assert "proxy_next_upstream_tries 2;" in text


def test_with_a_certificate_it_is_https_and_nothing_else():
    text = config(certificate=PEM, key={"secret": "balancer_key"})

    assert re.findall(r"listen (.*);", text) == [METRICS, "127.0.0.1:8080 ssl"]
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in text
    assert "ssl" not in config()


def written(directory: Path, **variables: Any) -> list[str]:
    """Write what nginx reads below *directory*, with its own files there as well, and return its command."""
    text = config(**variables)
    for place in ("/var/cache/rackwright-load-balancer", "/run/rackwright-load-balancer"):
        text = text.replace(place, str(directory))
    (directory / "nginx.conf").write_text(text)
    return [str(debian_program("nginx", "nginx")), "-e", "stderr", "-c", str(directory / "nginx.conf")]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"address": "::1"},
        {"services": {**SERVICES, "other": {"port": 8081, "members": ["[::1]:9000"]}}},
        {"services": {"digits": {**SERVICES["digits"], "requests_per_member": 8}}},
    ],
    ids=["one", "IPv6", "two", "conversations"],
)
def test_nginx_takes_it(variables: dict[str, Any], tmp_path: Path):
    done = subprocess.run([*written(tmp_path, **variables), "-t"], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


class Member(ThreadingHTTPServer):
    """A server that answers, or, where *breaks*, reads a request and answers nothing.

    It keeps the bodies that it has read, and its answers wait until `may_answer` is set.
    """

    def __init__(self, breaks: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        member = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                member.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                member.may_answer.wait(60)
                if breaks:
                    self.connection.close()
                    return
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *arguments: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture
def in_front(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Return a function that puts nginx in front of members, and gives its port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*members: str, **settings: int) -> int:
        port = free_port()
        argv = written(tmp_path, services={"digits": {"port": port, "members": list(members), **settings}})
        started.append(subprocess.Popen(argv))
        eventually(lambda: answered(port) is not None, "nginx answers")
        return port

    yield start
    for process in started:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def answered(port: int, body: bytes = b"{}") -> int | None:
    """Ask over a connection of its own, and return the status; None where nobody listens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v2/models/digits/infer", body)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


def test_a_member_that_refuses_connections_loses_no_request(in_front: Callable[..., int]):
    """
    A server that was asked to stop answers so, until it serves again.
    """
    one, other = Member(), Member()
    port = in_front(f"127.0.0.1:{one.server_port}", f"127.0.0.1:{other.server_port}")
    before = [answered(port) for _ in range(10)]
    one.end()
    without = [answered(port) for _ in range(10)]
    other.end()

    assert [*before, *without] == [200] * 20
    assert answered(port) == 502


def test_what_a_member_broke_off_is_asked_of_another(in_front: Callable[..., int]):
    breaks, answers = Member(breaks=True), Member()
    port = in_front(f"127.0.0.1:{breaks.server_port}", f"127.0.0.1:{answers.server_port}")

    assert [answered(port) for _ in range(10)] == [200] * 10
    breaks.end()
    answers.end()


def turn(conversation: int, number: int, in_parts: bool = False) -> bytes:
    """Return turn *number* of a conversation, with a long first message, as OpenAI's clients write it."""
    first = f'conversation "{conversation}" \\ ' + "text " * 20_000
    content = [{"type": "text", "text": first}] if in_parts else first
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": content},
    ]
    for each in range(number):
        messages += [{"role": "assistant", "content": f"answer {each}"}, {"role": "user", "content": f"and {each}?"}]
    return json.dumps({"messages": messages, "model": "m"}).encode()


@pytest.fixture
def three() -> Iterator[list[Member]]:
    members = [Member() for _ in range(3)]
    yield members
    for member in members:
        member.may_answer.set()
        member.end()


def place(members: list[Member], body: bytes) -> int:
    """Return the number of the member that has read *body*."""
    [found] = [number for number, member in enumerate(members) if body in member.bodies]
    return found


def test_the_turns_of_a_conversation_go_to_one_member(in_front: Callable[..., int], three: list[Member]):
    port = in_front(*(f"127.0.0.1:{each.server_port}" for each in three), requests_per_member=8)
    # with fewer conversations, a hash by the random ports may leave out a member
    turns = [[turn(each, number, each % 2 == 0) for number in range(3)] for each in range(40)]
    assert {answered(port, body) for conversation in turns for body in conversation} == {200}

    places = [{place(three, body) for body in conversation} for conversation in turns]
    assert [len(each) for each in places] == [1] * 40
    assert set.union(*places) == {0, 1, 2}


def test_a_conversation_leaves_a_member_with_enough_requests_and_no_request_is_lost(
    in_front: Callable[..., int], three: list[Member]
):
    """
    Then all members have as many requests as they should, and one of them answers all the same.
    """
    port = in_front(*(f"127.0.0.1:{each.server_port}" for each in three), requests_per_member=1)
    answered(port, turn(0, 0))
    home = place(three, turn(0, 0))
    for member in three:
        member.may_answer.clear()
    statuses: list[int | None] = []
    bodies = [turn(0, number) for number in range(1, 5)]
    asking = []
    for body in bodies:
        asking.append(threading.Thread(target=lambda body=body: statuses.append(answered(port, body))))
        asking[-1].start()
        eventually(lambda: any(body in member.bodies for member in three), "a member has the request")  # noqa: B023
    for member in three:
        member.may_answer.set()
    for each in asking:
        each.join()

    assert statuses == [200] * 4
    assert place(three, bodies[0]) == home
    assert {place(three, body) for body in bodies[:3]} == {0, 1, 2}


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"services": {"digits": {**SERVICES["digits"], "requests_per_member": 0}}}, "requests_per_member 0 of digits"),
        ({"services": {}}, "services: got none; a load balancer has at least one service"),
        ({"services": {"Digits": SERVICES["digits"]}}, 'services: got the name "Digits"; a name has small letters'),
        ({"services": {"digits": {"port": 80, "members": MEMBERS}}}, "a service has a port from 1024 to 65535"),
        ({"services": {"digits": {"port": 8080}}}, "a service has a port from 1024 to 65535, and members"),
        ({"services": {"digits": {"port": 8080, "members": MEMBERS + MEMBERS}}}, "a list with each member once"),
        ({"services": {"digits": {"port": 8080, "members": MEMBERS[0]}}}, "a list with each member once"),
        ({"services": {**SERVICES, "other": SERVICES["digits"]}}, "services: got port 8080 more than once"),
        ({"fail_seconds": 0}, "fail_seconds: got 0; the time is 1 to 60 seconds"),
        ({"answer_seconds": 0}, "answer_seconds: got 0"),
        ({"body_mib": 0}, "body_mib: got 0"),
        ({"certificate": PEM, "key": "in clear"}, "key: got the key in plain text; a private key is one of the stack"),
    ],
)
def test_what_cannot_be_is_refused(variables, wanted):
    given = {"services": SERVICES, **variables}
    assert list(SOURCE.problems("debian-12", given)) == [], "each is of its type"
    [problem] = refusals(SOURCE, "debian-12", given)

    assert wanted in f"{'.'.join(map(str, problem.path))}: {problem}"
