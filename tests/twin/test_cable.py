"""What leads out of a container, between sockets that stand for its NIC, the switch, and its SSH server."""

import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from rackwright.twin.container.cable import RELAY_BYTES, Cable, EventLoop, Relay
from rackwright.twin.switch import QUEUE_BYTES

FRAME = b"\x02" * 12 + b"\x88\xb5" + b"x" * 9000


@pytest.fixture
def loop():
    loop = EventLoop()
    yield loop
    loop.close()


class Plugged:
    """A cable whose NIC and switch are ours."""

    def __init__(self, loop, path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            self.nic, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one message, one frame
            inner.setblocking(False)
            self.cable = Cable(loop, inner.detach(), str(path))
            self.switch, _ = listener.accept()
        self.nic.settimeout(10)
        self.switch.settimeout(10)


@pytest.fixture
def plugged(loop, tmp_path):
    plugged = Plugged(loop, tmp_path / "switch")
    yield plugged
    plugged.cable.close()
    plugged.nic.close()
    plugged.switch.close()


def test_a_frame_goes_to_the_switch_behind_its_length(loop, plugged):
    """
    As QEMU sends it: four bytes of length, then a whole jumbo frame.
    """
    plugged.nic.send(FRAME)
    loop.run_once()

    assert plugged.switch.recv(1 << 16) == struct.pack(">I", len(FRAME)) + FRAME


def test_frames_from_the_switch_arrive_one_by_one(loop, plugged):
    """
    The stream has no borders, the NIC has: two frames and a half are two, and the rest comes later.
    """
    stream = (struct.pack(">I", len(FRAME)) + FRAME) * 3
    plugged.switch.sendall(stream[:-5000])
    loop.run_once()
    assert [plugged.nic.recv(1 << 16) for _ in range(2)] == [FRAME, FRAME]

    plugged.switch.sendall(stream[-5000:])
    loop.run_once()
    assert plugged.nic.recv(1 << 16) == FRAME


def test_a_switch_that_goes_is_a_cut_cable_and_no_end(loop, plugged):
    """
    The container lives on; what it sends is lost.
    """
    plugged.switch.close()
    loop.run_once()

    plugged.nic.send(FRAME)
    loop.run_once()
    plugged.nic.send(FRAME)
    loop.run_once()


def test_a_switch_that_takes_nothing_makes_frames_lost_and_not_memory(loop, plugged):
    """
    The queue is bounded; the cable goes on reading.
    """
    for _ in range(QUEUE_BYTES // len(FRAME) + 200):
        plugged.nic.send(FRAME)
        loop.run_once()

    assert len(plugged.cable._port.outgoing) <= QUEUE_BYTES


@pytest.fixture
def line(loop):
    """The outer ends of a line's two connections, and the line."""
    (client, one), (server, two) = socket.socketpair(), socket.socketpair()
    for end in (client, server):
        end.settimeout(10)
    line = Relay(loop, one, two)
    yield client, server, line
    line.close()
    client.close()
    server.close()


def test_each_hears_the_other_and_the_end_of_it(loop, line):
    """
    One may hang up and still listen.
    """
    client, server, both = line
    client.sendall(b"hello")
    loop.run_once()
    assert server.recv(100) == b"hello"

    client.shutdown(socket.SHUT_WR)
    loop.run_once()
    assert server.recv(100) == b""

    server.sendall(b"bye")
    loop.run_once()
    assert client.recv(100) == b"bye"
    server.close()
    loop.run_once()
    assert client.recv(100) == b""
    assert not both.is_open


def test_who_does_not_listen_holds_up_the_speaker(loop, line):
    """
    Nothing is lost and nothing is piled up: much more than fits arrives whole, once it is read.
    """
    client, server, both = line
    whole, received, piled_up = os.urandom(8 * RELAY_BYTES), bytearray(), []

    def listen() -> None:
        while len(received) < len(whole):
            received.extend(server.recv(1 << 16))
        client.shutdown(socket.SHUT_WR)
        server.close()

    with ThreadPoolExecutor(2) as pool:
        speaking = pool.submit(client.sendall, whole)
        while len(both._outgoing[both._ends[1]]) < RELAY_BYTES:
            loop.run_once()
        assert not speaking.done()
        listening = pool.submit(listen)
        while both.is_open:
            loop.run_once()
            piled_up.append(max(map(len, both._outgoing.values())))
        listening.result()

    assert received == whole
    assert max(piled_up) < 2 * RELAY_BYTES


def test_a_line_to_nobody_is_closed_to_the_caller(loop):
    """
    Before the guest's SSH server listens there is nothing but an end.
    """
    client, one = socket.socketpair()
    client.settimeout(10)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = socket.socket()
        nobody.setblocking(False)
        nobody.connect_ex(free.getsockname())
        line = Relay(loop, one, nobody)
        loop.run_once()

    assert client.recv(100) == b""
    assert not line.is_open
    client.close()
