"""The learning switch between the machines of a twin: `python -m rackwright.twin.switch SOCKET LIMITS`.

Each connection to the socket is a port. The length of a frame comes before it: four bytes, most significant first,
as QEMU's `-netdev stream` sends it. LIMITS is a file that may come and go, see `Limits`.
"""

import json
import selectors
import socket
import struct
import sys
from pathlib import Path

_LENGTH = struct.Struct(">I")
_HEADER_BYTES = 12
"""Destination and source address."""
_TYPE_BYTES, _TAG_BYTES = 2, 4
_TAGGED = b"\x81\x00"
"""Type field of a frame with a VLAN tag, which stands before the frame's own type. Source: IEEE 802.1Q."""
QUEUE_BYTES = 4 << 20
"""Bytes that a port may have unsent. Frames above this limit are dropped, as on a real switch."""


class Port:
    """One cable, with its incomplete frame and its unsent frames."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.outgoing = bytearray()
        self._incoming = bytearray()

    def frames(self, received: bytes) -> list[bytes]:
        """Return the frames, lengths included, that *received* completes."""
        self._incoming += received
        complete, start = [], 0
        while len(self._incoming) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._incoming, start)
            end = start + _LENGTH.size + length
            if len(self._incoming) < end:
                break
            complete.append(bytes(self._incoming[start:end]))
            start = end
        del self._incoming[:start]
        return complete


class Limits:
    """The packet limits of ports, from a JSON file of the largest packet in bytes by MAC address."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._bytes: dict[bytes, int] = {}

    def reload(self) -> None:
        """Read the file if it has changed. Its limits apply to all frames that arrive afterwards."""
        try:
            state = self._path.stat()
            if self._version != (state.st_ino, state.st_mtime_ns):
                limits = json.loads(self._path.read_text())
                self._bytes = {bytes.fromhex(mac.replace(":", "")): size for mac, size in limits.items()}
                self._version = state.st_ino, state.st_mtime_ns
        except FileNotFoundError:
            self._version, self._bytes = None, {}

    def allow(self, frame: bytes) -> bool:
        """Return whether *frame*, which includes its length, is within the limits of its source and destination."""
        destination, source, frame_type = frame[4:10], frame[10:16], frame[16:18]
        size = len(frame) - _LENGTH.size - _HEADER_BYTES - _TYPE_BYTES - (_TAG_BYTES if frame_type == _TAGGED else 0)
        return size <= min(self._bytes.get(destination, size), self._bytes.get(source, size))


class Switch:
    """The ports, and for each address the port that received its last frame."""

    def __init__(self, limits: Limits) -> None:
        self.ports: list[Port] = []
        self._limits = limits
        self._behind: dict[bytes, Port] = {}

    def receive(self, port: Port, data: bytes) -> set[Port]:
        """Queue the frames in *data* from *port* at their target ports, and return the ports that have data to send."""
        busy = set()
        self._limits.reload()
        for frame in port.frames(data):
            destination, source = frame[4:10], frame[10:16]
            if len(frame) < _LENGTH.size + _HEADER_BYTES:
                continue
            self._behind[source] = port
            for target in self._targets(port, destination) if self._limits.allow(frame) else ():
                if len(target.outgoing) + len(frame) <= QUEUE_BYTES:
                    target.outgoing += frame
                    busy.add(target)
        return busy

    def unplug(self, port: Port) -> None:
        """Remove *port* and the addresses behind it."""
        self.ports.remove(port)
        self._behind = {address: other for address, other in self._behind.items() if other is not port}

    def _targets(self, source: Port, destination: bytes) -> list[Port]:
        is_group = destination[0] & 1
        target = None if is_group else self._behind.get(destination)
        if target is None:
            return [port for port in self.ports if port is not source]
        return [] if target is source else [target]


def serve(path: Path, limits: Path) -> None:
    """Accept connections at the socket *path* and switch frames between them, without an end."""
    switch = Switch(Limits(limits))
    selector = selectors.DefaultSelector()
    listener, temporary = socket.socket(socket.AF_UNIX), path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    listener.bind(str(temporary))
    listener.listen(64)
    temporary.rename(path)  # a socket at *path* accepts connections at once
    selector.register(listener, selectors.EVENT_READ)

    def unplug(port: Port) -> None:
        selector.unregister(port.connection)
        switch.unplug(port)
        port.connection.close()

    def send(port: Port) -> None:
        try:
            while port.outgoing:
                del port.outgoing[: port.connection.send(port.outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            return  # the next read detects the end of the connection, too
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if port.outgoing else 0)
        selector.modify(port.connection, events, port)

    while True:
        for key, events in selector.select():
            port: Port | None = key.data
            if port is None:
                port = Port(listener.accept()[0])
                switch.ports.append(port)
                selector.register(port.connection, selectors.EVENT_READ, port)
                continue
            if events & selectors.EVENT_WRITE:
                send(port)
            if events & selectors.EVENT_READ:
                try:
                    data = port.connection.recv(1 << 18)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    unplug(port)
                    continue
                for busy in switch.receive(port, data):
                    send(busy)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
