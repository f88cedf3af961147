"""A connection: commands and their output, and every way of not being reached."""

import os
import socket
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rackwright.errors import HostUnreachable
from rackwright.hosts import transport
from rackwright.hosts.pins import HostKeyRefused
from rackwright.hosts.transport import Connection, ConnectionLost
from tests.support.simulated import SimulatedRack


@pytest.fixture
def shell(rack: SimulatedRack):
    connection = Connection(rack.endpoints["shell"])
    yield connection
    connection.close()


def test_a_command_gets_its_arguments_unchanged_and_its_input_whole(shell):
    odd = ("$HOME", "two words", "", "'\"\\`*", "naïve\n")

    arguments = shell.run(("printf", "%s|", *odd)).stdout
    content = os.urandom(3 << 20)

    assert arguments.decode() == "|".join(odd) + "|"
    assert shell.run(("cat",), content).stdout == content


def test_output_and_error_and_status_are_kept_apart(shell):
    result = shell.run(("sh", "-c", "echo out; echo error >&2; exit 7"))

    assert result == transport.CommandResult(7, b"out\n", "error\n")


def test_lines_are_reported_as_they_come(shell):
    """The second line is printed only once the first was reported."""
    lines, fifo = [], shell.run(("mktemp", "-u")).stdout.decode().strip()
    os.mkfifo(fifo)

    def tell(line: str) -> None:
        lines.append(line)
        if line == "first":
            with open(fifo, "w") as answer:  # noqa: PTH123
                answer.write("second")

    shell.run(("sh", "-c", f"echo first; cat {fifo}; rm {fifo}"), on_line=tell)

    assert lines == ["first", "second"]


def test_many_commands_share_one_connection(shell):
    results: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: shell.run(("echo", str(n))).stdout})) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {number: f"{number}\n".encode() for number in range(20)}


def test_a_command_that_ignores_its_input_is_no_error(shell):
    assert shell.run(("true",), bytes(5 << 20)).status == 0


def test_an_endless_command_is_abandoned(shell):
    with pytest.raises(HostUnreachable, match="^shell: `sleep` gave no answer within 1 s. "):
        shell.run(("sleep", "1000"), timeout=1)


def test_a_dropped_connection_is_not_a_result(shell):
    """The command kills the server of its own connection, as a crash of the host would."""
    with pytest.raises(ConnectionLost, match="^shell: the connection ended"):
        shell.run(("sh", "-c", "echo begun; kill -9 $PPID; sleep 1000"))
    assert not shell.alive


def test_a_host_that_is_off_is_unreachable(rack):
    rack.switch_off("gpu-01")

    with pytest.raises(HostUnreachable) as unreachable:
        Connection(rack.endpoints["gpu-01"])

    assert str(unreachable.value) == (
        "gpu-01: Connection refused."
        f" Check that the host runs, and that its SSH server listens on 127.1.0.2 port {rack['gpu-01'].port}."
    )


@pytest.mark.parametrize("greeting", [b"", b"220 mail.example ESMTP\r\n"])
def test_a_port_that_speaks_no_ssh_is_unreachable(rack, monkeypatch, greeting):
    monkeypatch.setattr(transport, "HANDSHAKE_SECONDS", 1.0)
    accepted = []

    def serve(server: socket.socket) -> None:
        accepted.append(server.accept()[0])
        accepted[0].sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        endpoint = replace(rack.endpoints["gpu-01"], address="127.0.0.1", port=server.getsockname()[1])

        with pytest.raises(HostUnreachable, match="Error reading SSH protocol banner. Check that the host runs"):
            Connection(endpoint)
    accepted[0].close()


def test_an_unknown_name_is_unreachable(rack):
    with pytest.raises(HostUnreachable, match=r"listens on gpu-01\.invalid port "):
        Connection(replace(rack.endpoints["gpu-01"], address="gpu-01.invalid"))


def test_a_host_behind_another_is_reached_through_it(rack):
    jump = Connection(rack.endpoints["shell"])
    behind = Connection(rack.endpoints["gpu-01"], via=jump)

    assert behind.run(("python3",)).status == 0
    jump.close()
    with pytest.raises(ConnectionLost):
        behind.run(("python3",))


def test_the_key_of_a_host_behind_another_is_pinned_too(rack, tmp_path):
    jump = Connection(rack.endpoints["shell"])

    with pytest.raises(HostKeyRefused):
        Connection(rack["gpu-01"].endpoint(rack, known_hosts=tmp_path / "none"), via=jump)
    jump.close()


def test_a_way_that_the_jump_host_does_not_find_names_both(rack):
    rack.switch_off("gpu-01")
    jump = Connection(rack.endpoints["shell"])

    with pytest.raises(HostUnreachable, match=r"Connect failed.* 127\.1\.0\.2 port \d+ through 127\.1\.0\.4"):
        Connection(rack.endpoints["gpu-01"], via=jump)
    jump.close()


def test_a_command_with_endless_output_is_abandoned(shell, monkeypatch):
    monkeypatch.setattr(transport, "ANSWER_BYTES", 1 << 20)
    monkeypatch.setattr(transport, "STDERR_BYTES", 1 << 20)
    for script in ("timeout 60 yes", "head -c 1500000 /dev/zero >&2"):
        with pytest.raises(HostUnreachable, match="`sh` printed more than 1 MiB. Find out what the host has"):
            shell.run(("sh", "-c", script))
    assert shell.run(("true",)).status == 0, "the connection goes on"


def test_lines_may_be_many_and_none_without_end(shell, monkeypatch):
    monkeypatch.setattr(transport, "ANSWER_BYTES", 1000)
    lines: list[str] = []

    assert len(shell.run(("seq", "1", "10000"), on_line=lines.append).stdout) == 1000
    assert lines == [str(number) for number in range(1, 10001)]
    with pytest.raises(HostUnreachable, match="printed a line of more than 1 MiB"):
        shell.run(("head", "-c", "3000000", "/dev/zero"), on_line=lines.append)


@pytest.mark.parametrize("dropped", [EOFError, OSError])
def test_a_connection_that_drops_while_input_is_sent_is_lost(dropped):
    class Channel:
        exit_status = -1
        status_event = SimpleNamespace(wait=lambda seconds: True)

        def settimeout(self, seconds):
            pass

        def sendall(self, data):
            raise dropped

        def recv(self, size):
            return b""

        recv_stderr = recv

        def close(self):
            pass

    connection = object.__new__(Connection)
    connection.endpoint = SimpleNamespace(host="gpu-01")
    connection._transport = SimpleNamespace(is_active=lambda: False, close=lambda: None)
    connection.open = lambda argv: Channel()

    with pytest.raises(ConnectionLost, match="gpu-01: the connection ended"):
        connection.run(("true",), b"input")
