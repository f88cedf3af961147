"""The cables and relays of a container, with sockets in place of its NIC, the switch and its SSH server."""

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


class CableLab:
    """A cable, with the test's ends of its NIC and its switch."""

    def __init__(self, loop, path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            self.nic, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one message, one frame
            inner.setblocking(False)
            self.cable = Cable(loop, inner.detach(), str(path))
            self.switch, _ = listener.accept()
        self.path = path
        self.nic.settimeout(10)
        self.switch.settimeout(10)


@pytest.fixture
def cable_lab(loop, tmp_path):
    cable_lab = CableLab(loop, tmp_path / "switch")
    yield cable_lab
    cable_lab.cable.close()
    cable_lab.nic.close()
    cable_lab.switch.close()


def test_the_length_precedes_a_frame_to_the_switch(loop, cable_lab):
    """
    As from QEMU: four bytes of length, then a whole jumbo frame.
    """
    cable_lab.nic.send(FRAME)
    loop.run_once()

    assert cable_lab.switch.recv(1 << 16) == struct.pack(">I", len(FRAME)) + FRAME


def test_frames_from_the_switch_arrive_one_by_one(loop, cable_lab):
    """
    A stream of two and a half frames arrives as two frames at the NIC, and the third frame later.
    """
    stream = (struct.pack(">I", len(FRAME)) + FRAME) * 3
    cable_lab.switch.sendall(stream[:-5000])
    loop.run_once()
    assert [cable_lab.nic.recv(1 << 16) for _ in range(2)] == [FRAME, FRAME]

    cable_lab.switch.sendall(stream[-5000:])
    loop.run_once()
    assert cable_lab.nic.recv(1 << 16) == FRAME


def test_a_container_survives_the_end_of_the_switch(loop, cable_lab):
    """
    The container continues to run; its frames are lost.
    """
    cable_lab.switch.close()
    loop.run_once()

    cable_lab.nic.send(FRAME)
    loop.run_once()
    cable_lab.nic.send(FRAME)
    loop.run_once()


def test_a_pulled_cable_loses_frames_until_it_is_plugged_in(loop, cable_lab):
    """
    Twice each, as a second command does; a switch that is gone leaves the cable out.
    """
    for _ in range(2):
        cable_lab.cable.pull()
    assert cable_lab.switch.recv(100) == b""
    cable_lab.nic.send(FRAME)
    loop.run_once()
    cable_lab.cable.plug_in()  # the listener of the first connection has gone
    cable_lab.path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(cable_lab.path))
        listener.listen()
        for _ in range(2):
            cable_lab.cable.plug_in()
        again, _ = listener.accept()
    with again:
        cable_lab.nic.send(FRAME)
        loop.run_once()
        assert again.recv(1 << 16) == struct.pack(">I", len(FRAME)) + FRAME


def test_frames_to_a_stalled_switch_are_dropped_above_a_limit(loop, cable_lab):
    """
    The queue is limited, and the cable continues to read.
    """
    for _ in range(QUEUE_BYTES // len(FRAME) + 200):
        cable_lab.nic.send(FRAME)
        loop.run_once()

    assert len(cable_lab.cable._port.outgoing) <= QUEUE_BYTES


@pytest.fixture
def relay(loop):
    """The outer ends of a relay's two connections, and the relay."""
    (client, one), (server, two) = socket.socketpair(), socket.socketpair()
    for end in (client, server):
        end.settimeout(10)
    relay = Relay(loop, one, two)
    yield client, server, relay
    relay.close()
    client.close()
    server.close()


def test_a_relay_forwards_data_and_the_end_of_it_both_ways(loop, relay):
    """
    An end that has closed for writing still receives.
    """
    client, server, both = relay
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


def test_a_slow_reader_slows_the_sender_down(loop, relay):
    """
    Data of several times the buffer arrives completely, and the buffer stays limited.
    """
    client, server, both = relay
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


def test_a_relay_without_a_server_closes_the_connection(loop):
    """
    Before the guest's SSH server listens, the client sees the end of the connection.
    """
    client, one = socket.socketpair()
    client.settimeout(10)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = socket.socket()
        nobody.setblocking(False)
        nobody.connect_ex(free.getsockname())
        relay = Relay(loop, one, nobody)
        loop.run_once()

    assert client.recv(100) == b""
    assert not relay.is_open
    client.close()
