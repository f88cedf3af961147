"""The connections of a container: cables from its NICs to the switch, and relays to its SSH server."""

import contextlib
import fcntl
import os
import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any

from rackwright.twin.switch import QUEUE_BYTES, Port

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
RELAY_BYTES = 1 << 20
"""Bytes that one end of a relay may have unsent before the relay stops reading the other end."""
_AT_ONCE = 1 << 18
_FRAME_MAX = 1 << 16
_FRAMES_AT_ONCE = 64
"""Frames that a cable reads before the other files of the loop are handled."""

_TUNSETIFF = 0x400454CA
_TUNSETCARRIER = 0x400454E2
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SIOCSIFMTU, _SIOCSIFHWADDR = 0x8922, 0x8924
_ETHERNET = 1
"""Source of the numbers: linux/if_tun.h, linux/sockios.h, linux/if_arp.h."""


class EventLoop:
    """A selector that calls one function for each ready file. A file may wait for no events for a while."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ready: dict[Any, Callable[[int], None]] = {}

    def set(self, file: Any, events: int, ready: Callable[[int], None]) -> None:
        """Call *ready* at *events* on *file* from now on. Set no events, 0, before the file is closed."""
        if file in self._ready and not events:
            self._selector.unregister(file)
            del self._ready[file]
        elif events:
            (self._selector.modify if file in self._ready else self._selector.register)(file, events)
            self._ready[file] = ready

    def run_once(self) -> None:
        """Wait until at least one file is ready, and call the functions of all ready files."""
        for key, events in self._selector.select():
            if key.fileobj in self._ready:  # an earlier function of this round may have removed it
                self._ready[key.fileobj](events)

    def close(self) -> None:
        self._selector.close()


def create_tap(name: str, mac: str, mtu: int) -> int:
    """Return a new TAP device in the network namespace of this thread. The device vanishes when it is closed."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        address = bytes.fromhex(mac.replace(":", ""))
        fcntl.ioctl(control, _SIOCSIFHWADDR, struct.pack("16sH6s16x", name.encode(), _ETHERNET, address))
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", name.encode(), mtu))
    return device


class Cable:
    """Carries frames between a TAP device and the switch, which expects the length before each frame."""

    def __init__(self, loop: EventLoop, device: int, switch: str) -> None:
        self._watch, self._device, self._switch = loop, device, switch
        self._port = self._connect()
        loop.set(device, READ, self._from_device)

    def pull(self) -> None:
        """Pull the cable out: the container sees that its link is down. Again, and nothing changes."""
        if self._is_plugged:
            self._show_carrier(False)
            self._unplug()

    def plug_in(self) -> None:
        """Put a pulled cable back. It stays out if the switch has gone."""
        if not self._is_plugged:
            with contextlib.suppress(OSError):
                self._port = self._connect()
                self._show_carrier(True)

    def close(self) -> None:
        self._watch.set(self._device, 0, self._from_device)
        os.close(self._device)
        self._unplug()

    def _from_device(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_FRAMES_AT_ONCE):
                frame = os.read(self._device, _FRAME_MAX)
                if not self._is_plugged:
                    continue
                if (
                    len(self._port.outgoing) + len(frame) <= QUEUE_BYTES
                ):  # frames above the limit are lost, as on any cable
                    self._port.outgoing += len(frame).to_bytes(4) + frame
        self._send()

    def _from_switch(self, events: int) -> None:
        try:
            if events & WRITE:
                self._send()
            data = self._port.connection.recv(_AT_ONCE) if events & READ else None
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data == b"":  # the switch has gone: the container sees a cut cable
            self.pull()
        for frame in self._port.frames(data or b""):
            with contextlib.suppress(OSError):  # a NIC that is down takes no frames
                os.write(self._device, frame[4:])

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # full; or closed, which the next read detects
            while self._port.outgoing:
                del self._port.outgoing[: self._port.connection.send(self._port.outgoing)]
        if self._is_plugged:
            self._watch.set(self._port.connection, READ | (WRITE if self._port.outgoing else 0), self._from_switch)

    def _connect(self) -> Port:
        plug = socket.socket(socket.AF_UNIX)
        plug.connect(self._switch)
        self._watch.set(plug, READ, self._from_switch)
        return Port(plug)

    def _show_carrier(self, up: bool) -> None:
        with contextlib.suppress(OSError):  # kernels before 5.0 cannot show it
            fcntl.ioctl(self._device, _TUNSETCARRIER, struct.pack("i", up))

    @property
    def _is_plugged(self) -> bool:
        return self._port.connection.fileno() != -1

    def _unplug(self) -> None:
        self._watch.set(self._port.connection, 0, self._from_switch)
        self._port.connection.close()


class Relay:
    """Two connections that receive each other's data until both are closed for writing, or one breaks."""

    def __init__(self, loop: EventLoop, *ends: socket.socket) -> None:
        self._watch, self._ends = loop, ends
        self._outgoing = {end: bytearray() for end in ends}
        self._at_eof: set[socket.socket] = set()
        """Ends that send no more data."""
        self._write_closed: set[socket.socket] = set()
        """Ends that this relay has closed for writing, since the other end sends no more data."""
        for end in ends:
            end.setblocking(False)
            loop.set(end, READ, self._ready(end))

    @property
    def is_open(self) -> bool:
        return self._ends[0].fileno() != -1

    def close(self) -> None:
        for end in self._ends:
            self._watch.set(end, 0, self._ready(end))
            end.close()

    def _ready(self, end: socket.socket) -> Callable[[int], None]:
        return lambda events: self._on_ready(end, events)

    def _on_ready(self, end: socket.socket, events: int) -> None:
        other = self._other(end)
        try:
            if events & READ:
                data = end.recv(_AT_ONCE)
                self._outgoing[other] += data
                if not data:
                    self._at_eof.add(end)
            for one in self._ends:
                self._send_to(one)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._write_closed) == len(self._ends):
            self.close()
            return
        for one in self._ends:
            wants_more = one not in self._at_eof and len(self._outgoing[self._other(one)]) < RELAY_BYTES
            events = (READ if wants_more else 0) | (WRITE if self._outgoing[one] else 0)
            self._watch.set(one, events, self._ready(one))

    def _send_to(self, end: socket.socket) -> None:
        outgoing = self._outgoing[end]
        with contextlib.suppress(BlockingIOError):
            while outgoing:
                del outgoing[: end.send(outgoing)]
        if not outgoing and self._other(end) in self._at_eof and end not in self._write_closed:
            self._write_closed.add(end)
            end.shutdown(socket.SHUT_WR)

    def _other(self, end: socket.socket) -> socket.socket:
        return self._ends[1] if end is self._ends[0] else self._ends[0]
