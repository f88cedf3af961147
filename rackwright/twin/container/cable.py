"""What leads out of a container: cables between its NICs and the switch, and lines to its SSH server."""

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
LINE_BYTES = 1 << 20
"""What one end of a line may have unsent before the other is no longer read."""
_AT_ONCE = 1 << 18
_FRAME_MAX = 1 << 16
_FRAMES_AT_ONCE = 64
"""After which others get their turn."""

_TUNSETIFF = 0x400454CA
_TUNSETCARRIER = 0x400454E2
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SIOCSIFMTU, _SIOCSIFHWADDR = 0x8922, 0x8924
_ETHERNET = 1
"""Source of the numbers: linux/if_tun.h, linux/sockios.h, linux/if_arp.h."""


class Watch:
    """A selector whose files may also want nothing for a while; each has a function that is told what is ready."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ready: dict[Any, Callable[[int], None]] = {}

    def set(self, file: Any, events: int, ready: Callable[[int], None]) -> None:
        """From now on wait for *events* on *file*; for none, leave it alone, as has to be done before it is closed."""
        if file in self._ready and not events:
            self._selector.unregister(file)
            del self._ready[file]
        elif events:
            (self._selector.modify if file in self._ready else self._selector.register)(file, events)
            self._ready[file] = ready

    def turn(self) -> None:
        """Wait until something is ready, and let it be handled."""
        for key, events in self._selector.select():
            if key.fileobj in self._ready:  # not ended by one that was ready before it
                self._ready[key.fileobj](events)

    def close(self) -> None:
        self._selector.close()


def tap(name: str, mac: str, mtu: int) -> int:
    """Return a new TAP device, in the network namespace of this thread; it is gone once it is closed."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        address = bytes.fromhex(mac.replace(":", ""))
        fcntl.ioctl(control, _SIOCSIFHWADDR, struct.pack("16sH6s16x", name.encode(), _ETHERNET, address))
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", name.encode(), mtu))
    return device


class Cable:
    """Carries frames between a TAP device and the switch, which wants each preceded by its length."""

    def __init__(self, watch: Watch, device: int, switch: str) -> None:
        plug = socket.socket(socket.AF_UNIX)
        plug.connect(switch)
        self._watch, self._device, self._port = watch, device, Port(plug)
        watch.set(device, READ, self._from_device)
        watch.set(plug, READ, self._from_switch)

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
                if len(self._port.outgoing) + len(frame) <= QUEUE_BYTES:  # what is too much is lost, as on any cable
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
        if data == b"":  # the switch has gone: to the container, its cable is cut
            with contextlib.suppress(OSError):  # kernels before 5.0 cannot show it
                fcntl.ioctl(self._device, _TUNSETCARRIER, struct.pack("i", 0))
            self._unplug()
        for frame in self._port.frames(data or b""):
            with contextlib.suppress(OSError):  # a NIC that is down takes none
                os.write(self._device, frame[4:])

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # full; or at its end, which is read, too
            while self._port.outgoing:
                del self._port.outgoing[: self._port.connection.send(self._port.outgoing)]
        if self._is_plugged:
            self._watch.set(self._port.connection, READ | (WRITE if self._port.outgoing else 0), self._from_switch)

    @property
    def _is_plugged(self) -> bool:
        return self._port.connection.fileno() != -1

    def _unplug(self) -> None:
        self._watch.set(self._port.connection, 0, self._from_switch)
        self._port.connection.close()


class Line:
    """Two connections that hear each other, until both have hung up or one breaks."""

    def __init__(self, watch: Watch, *ends: socket.socket) -> None:
        self._watch, self._ends = watch, ends
        self._outgoing = {end: bytearray() for end in ends}
        self._silent: set[socket.socket] = set()
        """Ends that will say nothing more."""
        self._told: set[socket.socket] = set()
        """Ends that have been told so of the other."""
        for end in ends:
            end.setblocking(False)
            watch.set(end, READ, self._ready(end))

    @property
    def is_open(self) -> bool:
        return self._ends[0].fileno() != -1

    def close(self) -> None:
        for end in self._ends:
            self._watch.set(end, 0, self._ready(end))
            end.close()

    def _ready(self, end: socket.socket) -> Callable[[int], None]:
        return lambda events: self._hear(end, events)

    def _hear(self, end: socket.socket, events: int) -> None:
        other = self._other(end)
        try:
            if events & READ:
                data = end.recv(_AT_ONCE)
                self._outgoing[other] += data
                if not data:
                    self._silent.add(end)
            for one in self._ends:
                self._speak(one)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._told) == len(self._ends):
            self.close()
            return
        for one in self._ends:
            wants_more = one not in self._silent and len(self._outgoing[self._other(one)]) < LINE_BYTES
            events = (READ if wants_more else 0) | (WRITE if self._outgoing[one] else 0)
            self._watch.set(one, events, self._ready(one))

    def _speak(self, end: socket.socket) -> None:
        outgoing = self._outgoing[end]
        with contextlib.suppress(BlockingIOError):
            while outgoing:
                del outgoing[: end.send(outgoing)]
        if not outgoing and self._other(end) in self._silent and end not in self._told:
            self._told.add(end)
            end.shutdown(socket.SHUT_WR)

    def _other(self, end: socket.socket) -> socket.socket:
        return self._ends[1] if end is self._ends[0] else self._ends[0]
