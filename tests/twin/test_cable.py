"""What leads out of a container, between sockets that stand for its NIC, the switch, and its SSH server."""

import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from rackwright.twin.container.cable import LINE_BYTES, Cable, Line, Watch
from rackwright.twin.switch import QUEUE_BYTES

FRAME = b"\x02" * 12 + b"\x88\xb5" + b"x" * 9000


@pytest.fixture
def watch():
    watch = Watch()
    yield watch
    watch.close()


class Plugged:
    """A cable whose NIC and switch are ours."""

    def __init__(self, watch, path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            self.nic, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one message, one frame
            inner.setblocking(False)
            self.cable = Cable(watch, inner.detach(), str(path))
            self.switch, _ = listener.accept()
        self.nic.settimeout(10)
        self.switch.settimeout(10)


@pytest.fixture
def plugged(watch, tmp_path):
    plugged = Plugged(watch, tmp_path / "switch")
    yield plugged
    plugged.cable.close()
    plugged.nic.close()
    plugged.switch.close()


def test_a_frame_goes_to_the_switch_behind_its_length(watch, plugged):
    """
    As QEMU sends it: four bytes of length, then a whole jumbo frame.
    """
    plugged.nic.send(FRAME)
    watch.turn()

    assert plugged.switch.recv(1 << 16) == struct.pack(">I", len(FRAME)) + FRAME


def test_frames_from_the_switch_arrive_one_by_one(watch, plugged):
    """
    The stream has no borders, the NIC has: two frames and a half are two, and the rest comes later.
    """
    stream = (struct.pack(">I", len(FRAME)) + FRAME) * 3
    plugged.switch.sendall(stream[:-5000])
    watch.turn()
    assert [plugged.nic.recv(1 << 16) for _ in range(2)] == [FRAME, FRAME]

    plugged.switch.sendall(stream[-5000:])
    watch.turn()
    assert plugged.nic.recv(1 << 16) == FRAME


def test_a_switch_that_goes_is_a_cut_cable_and_no_end(watch, plugged):
    """
    The container lives on; what it sends is lost.
    """
    plugged.switch.close()
    watch.turn()

    plugged.nic.send(FRAME)
    watch.turn()
    plugged.nic.send(FRAME)
    watch.turn()


def test_a_switch_that_takes_nothing_makes_frames_lost_and_not_memory(watch, plugged):
    """
    The queue is bounded; the cable goes on reading.
    """
    for _ in range(QUEUE_BYTES // len(FRAME) + 200):
        plugged.nic.send(FRAME)
        watch.turn()

    assert len(plugged.cable._port.outgoing) <= QUEUE_BYTES


@pytest.fixture
def line(watch):
    """The outer ends of a line's two connections, and the line."""
    (client, one), (server, two) = socket.socketpair(), socket.socketpair()
    for end in (client, server):
        end.settimeout(10)
    line = Line(watch, one, two)
    yield client, server, line
    line.close()
    client.close()
    server.close()


def test_each_hears_the_other_and_the_end_of_it(watch, line):
    """
    One may hang up and still listen.
    """
    client, server, both = line
    client.sendall(b"hello")
    watch.turn()
    assert server.recv(100) == b"hello"

    client.shutdown(socket.SHUT_WR)
    watch.turn()
    assert server.recv(100) == b""

    server.sendall(b"bye")
    watch.turn()
    assert client.recv(100) == b"bye"
    server.close()
    watch.turn()
    assert client.recv(100) == b""
    assert not both.is_open


def test_who_does_not_listen_holds_up_the_speaker(watch, line):
    """
    Nothing is lost and nothing is piled up: much more than fits arrives whole, once it is read.
    """
    client, server, both = line
    whole, received, piled_up = os.urandom(8 * LINE_BYTES), bytearray(), []

    def listen() -> None:
        while len(received) < len(whole):
            received.extend(server.recv(1 << 16))
        client.shutdown(socket.SHUT_WR)
        server.close()

    with ThreadPoolExecutor(2) as pool:
        speaking = pool.submit(client.sendall, whole)
        while len(both._outgoing[both._ends[1]]) < LINE_BYTES:
            watch.turn()
        assert not speaking.done()
        listening = pool.submit(listen)
        while both.is_open:
            watch.turn()
            piled_up.append(max(map(len, both._outgoing.values())))
        listening.result()

    assert received == whole
    assert max(piled_up) < 2 * LINE_BYTES


def test_a_line_to_nobody_is_closed_to_the_caller(watch):
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
        line = Line(watch, one, nobody)
        watch.turn()

    assert client.recv(100) == b""
    assert not line.is_open
    client.close()
