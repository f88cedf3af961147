"""The switch, over the sockets that QEMU would use."""

import json
import socket
import struct
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from rackwright.twin.switch import QUEUE_BYTES, Limits, Port, Switch

A, B, C = (bytes([2, 0, 0, 0, 0, number]) for number in (1, 2, 3))
EVERYBODY = b"\xff" * 6


def frame(destination, source, payload=b"hello"):
    return destination + source + b"\x88\xb5" + payload


def framed(one):
    return struct.pack(">I", len(one)) + one


class Cable:
    """One end of a cable in the switch; the other end is its port."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(10)

    def send(self, *frames):
        self.socket.sendall(b"".join(map(framed, frames)))

    def receive(self):
        (length,) = struct.unpack(">I", self._exactly(4))
        return self._exactly(length)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the switch hung up"
            data += more
        return data


@pytest.fixture
def cables(tmp_path, eventually):
    """Three cables in a switch of their own, each heard once, so that the switch knows who is where."""
    path = tmp_path / "switch"
    argv = [sys.executable, "-m", "rackwright.twin.switch", str(path), str(tmp_path / "limits")]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2]) as process:
        try:
            eventually(path.exists)
            connected = [Cable(path) for _ in range(3)]
            # The last to connect speaks first: once it is heard, the others are plugged in, too.
            for cable, address in reversed(list(zip(connected, (A, B, C), strict=True))):
                cable.send(frame(EVERYBODY, address))
                for other in connected:
                    if other is not cable:
                        assert other.receive() == frame(EVERYBODY, address)
            yield connected
        finally:
            process.kill()


def test_a_known_address_is_reached_and_nobody_else(cables):
    """
    What A says to B does not come to C.
    """
    a, b, c = cables
    a.send(frame(B, A), frame(EVERYBODY, A, b"last"))

    assert b.receive() == frame(B, A)
    assert c.receive() == frame(EVERYBODY, A, b"last")


def test_an_unknown_address_reaches_all_others(cables):
    """
    Until an address was heard, everybody may be behind it.
    """
    a, b, c = cables
    a.send(frame(b"\x02" + b"\x09" * 5, A))

    assert b.receive() == c.receive()


def test_frames_that_arrive_in_pieces_are_one_frame(cables):
    """
    A stream has no borders; the switch finds them again.
    """
    a, b, _ = cables
    whole = frame(B, A, b"x" * 8900)
    data = framed(whole)
    for start in range(0, len(data), 999):
        a.socket.sendall(data[start : start + 999])

    assert b.receive() == whole


@pytest.fixture
def ports(tmp_path):
    """A switch without a process around it, and three ports, each heard once."""
    ends = [socket.socketpair() for _ in range(3)]
    switch = Switch(Limits(tmp_path / "limits"))
    switch.ports = [Port(inner) for inner, _ in ends]
    for port, address in zip(switch.ports, (A, B, C), strict=True):
        switch.receive(port, framed(frame(EVERYBODY, address)))
    for port in switch.ports:
        port.outgoing.clear()
    yield switch, *switch.ports
    for one in chain.from_iterable(ends):
        one.close()


def test_a_port_that_goes_takes_its_addresses_with_it(ports):
    """
    Afterwards they may be anywhere, and are looked for everywhere.
    """
    switch, a, b, c = ports
    assert switch.receive(a, framed(frame(B, A))) == {b}

    switch.unplug(b)

    assert switch.receive(a, framed(frame(B, A))) == {c}


def test_an_address_that_moves_is_found_at_its_new_place(ports):
    """
    The last place it was heard from counts.
    """
    switch, a, _, c = ports

    switch.receive(c, framed(frame(EVERYBODY, B)))

    assert switch.receive(a, framed(frame(B, A))) == {c}


def test_a_port_with_a_limit_loses_what_is_larger_both_ways(ports, tmp_path):
    """
    The packet counts, not what stands before it, be it a VLAN's tag too; what goes between others is not touched.
    """
    switch, a, b, c = ports
    limits = tmp_path / "limits"

    def passes(size, source=A, destination=B, tag=b""):
        one = destination + source + tag + b"\x08\x00" + bytes(size)
        port = {A: a, C: c}.get(source, b)
        return switch.receive(port, framed(one)) != set()

    limits.write_text(json.dumps({B.hex(":"): 1500}))
    assert [passes(size) for size in (1500, 1501)] == [True, False]
    assert [passes(size, B, A) for size in (1500, 1501)] == [True, False]
    assert [passes(size, tag=b"\x81\x00\x00\x28") for size in (1500, 1501)] == [True, False]
    assert passes(9000, C, A)

    limits.unlink()
    assert passes(9000)


def test_a_port_that_takes_nothing_has_a_bounded_queue(ports):
    """
    What does not fit is dropped, whole frames at a time, and the others get theirs.
    """
    switch, a, b, c = ports
    one = framed(frame(B, A, b"x" * 8900))
    for _ in range(QUEUE_BYTES // len(one) + 100):
        switch.receive(a, one)

    assert len(b.outgoing) == QUEUE_BYTES // len(one) * len(one)
    assert switch.receive(a, framed(frame(C, A))) == {c}
