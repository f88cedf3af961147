"""The switch, over sockets as QEMU uses them."""

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
BROADCAST = b"\xff" * 6


def frame(destination, source, payload=b"hello"):
    return destination + source + b"\x88\xb5" + payload


def with_length(one):
    return struct.pack(">I", len(one)) + one


class Cable:
    """The outer end of a cable into the switch."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(10)

    def send(self, *frames):
        self.socket.sendall(b"".join(map(with_length, frames)))

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
    """Three cables into one switch, which has received a frame from each and knows their addresses."""
    path = tmp_path / "switch"
    argv = [sys.executable, "-m", "rackwright.twin.switch", str(path), str(tmp_path / "limits")]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2]) as process:
        try:
            eventually(path.exists)
            connected = [Cable(path) for _ in range(3)]
            # The last cable sends first: once its frame arrives, all cables are connected.
            for cable, address in reversed(list(zip(connected, (A, B, C), strict=True))):
                cable.send(frame(BROADCAST, address))
                for other in connected:
                    if other is not cable:
                        assert other.receive() == frame(BROADCAST, address)
            yield connected
        finally:
            process.kill()


def test_a_frame_to_a_known_address_reaches_only_its_port(cables):
    """
    A frame from A to B does not reach C.
    """
    a, b, c = cables
    a.send(frame(B, A), frame(BROADCAST, A, b"last"))

    assert b.receive() == frame(B, A)
    assert c.receive() == frame(BROADCAST, A, b"last")


def test_a_frame_to_an_unknown_address_reaches_all_ports(cables):
    """
    The switch learns an address from the first frame that it sends.
    """
    a, b, c = cables
    a.send(frame(b"\x02" + b"\x09" * 5, A))

    assert b.receive() == c.receive()


def test_a_frame_in_pieces_is_forwarded_as_one_frame(cables):
    """
    The switch splits the stream at the lengths of the frames.
    """
    a, b, _ = cables
    whole = frame(B, A, b"x" * 8900)
    data = with_length(whole)
    for start in range(0, len(data), 999):
        a.socket.sendall(data[start : start + 999])

    assert b.receive() == whole


@pytest.fixture
def ports(tmp_path):
    """A switch in this process, with three ports that have each sent a frame."""
    ends = [socket.socketpair() for _ in range(3)]
    switch = Switch(Limits(tmp_path / "limits"))
    switch.ports = [Port(inner) for inner, _ in ends]
    for port, address in zip(switch.ports, (A, B, C), strict=True):
        switch.receive(port, with_length(frame(BROADCAST, address)))
    for port in switch.ports:
        port.outgoing.clear()
    yield switch, *switch.ports
    for one in chain.from_iterable(ends):
        one.close()


def test_an_unplugged_port_loses_its_addresses(ports):
    """
    Frames to these addresses then go to all ports.
    """
    switch, a, b, c = ports
    assert switch.receive(a, with_length(frame(B, A))) == {b}

    switch.unplug(b)

    assert switch.receive(a, with_length(frame(B, A))) == {c}


def test_the_switch_follows_an_address_to_its_new_port(ports):
    """
    The port of the last frame from an address counts.
    """
    switch, a, _, c = ports

    switch.receive(c, with_length(frame(BROADCAST, B)))

    assert switch.receive(a, with_length(frame(B, A))) == {c}


def test_a_port_with_a_limit_drops_larger_packets_both_ways(ports, tmp_path):
    """
    The limit counts the packet without its Ethernet header and VLAN tag. Frames between other ports pass.
    """
    switch, a, b, c = ports
    limits = tmp_path / "limits"

    def passes(size, source=A, destination=B, tag=b""):
        one = destination + source + tag + b"\x08\x00" + bytes(size)
        port = {A: a, C: c}.get(source, b)
        return switch.receive(port, with_length(one)) != set()

    limits.write_text(json.dumps({B.hex(":"): 1500}))
    assert [passes(size) for size in (1500, 1501)] == [True, False]
    assert [passes(size, B, A) for size in (1500, 1501)] == [True, False]
    assert [passes(size, tag=b"\x81\x00\x00\x28") for size in (1500, 1501)] == [True, False]
    assert passes(9000, C, A)

    limits.unlink()
    assert passes(9000)


def test_the_queue_of_a_stalled_port_is_limited(ports):
    """
    Frames that do not fit are dropped as a whole, and other ports still get theirs.
    """
    switch, a, b, c = ports
    one = with_length(frame(B, A, b"x" * 8900))
    for _ in range(QUEUE_BYTES // len(one) + 100):
        switch.receive(a, one)

    assert len(b.outgoing) == QUEUE_BYTES // len(one) * len(one)
    assert switch.receive(a, with_length(frame(C, A))) == {c}
