"""The wire between the machines of a twin: `python -m rackwright.twin.switch SOCKET LIMITS`, a learning switch.

Each connection to the socket is a port. A frame is preceded by its length, four bytes, most significant first,
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
"""What stands for the type where a VLAN's tag stands before it. Source: IEEE 802.1Q."""
QUEUE_BYTES = 4 << 20
"""What a port may have unsent; what comes above is dropped, as on a real switch."""


class Port:
    """One cable: what came in part, and what is still to go out."""

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
    """What the ports of some hosts take, as a file says it: JSON, the bytes of the largest packet by MAC address."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._bytes: dict[bytes, int] = {}

    def look(self) -> None:
        """Read the file if it is another than before; from then on its limits hold for every frame that is received."""
        try:
            state = self._path.stat()
            if self._seen != (state.st_ino, state.st_mtime_ns):
                told = json.loads(self._path.read_text())
                self._bytes = {bytes.fromhex(mac.replace(":", "")): size for mac, size in told.items()}
                self._seen = state.st_ino, state.st_mtime_ns
        except FileNotFoundError:
            self._seen, self._bytes = None, {}

    def allow(self, frame: bytes) -> bool:
        """Return whether a *frame*, its length included, is no larger than its two ends take."""
        destination, source, kind = frame[4:10], frame[10:16], frame[16:18]
        size = len(frame) - _LENGTH.size - _HEADER_BYTES - _TYPE_BYTES - (_TAG_BYTES if kind == _TAGGED else 0)
        return size <= min(self._bytes.get(destination, size), self._bytes.get(source, size))


class Switch:
    """Ports, and behind which of them each address was last heard."""

    def __init__(self, limits: Limits) -> None:
        self.ports: list[Port] = []
        self._limits = limits
        self._behind: dict[bytes, Port] = {}

    def receive(self, port: Port, data: bytes) -> set[Port]:
        """Take *data* from *port*, queue its frames where they belong, and return the ports that have to send."""
        busy = set()
        self._limits.look()
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
        """Forget *port* and all that was behind it."""
        self.ports.remove(port)
        self._behind = {address: other for address, other in self._behind.items() if other is not port}

    def _targets(self, source: Port, destination: bytes) -> list[Port]:
        is_group = destination[0] & 1
        known = None if is_group else self._behind.get(destination)
        if known is None:
            return [port for port in self.ports if port is not source]
        return [] if known is source else [known]


def serve(path: Path, limits: Path) -> None:
    """Connect whoever connects to the socket at *path*, for ever."""
    switch = Switch(Limits(limits))
    selector = selectors.DefaultSelector()
    listener, beside = socket.socket(socket.AF_UNIX), path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    listener.bind(str(beside))
    listener.listen(64)
    beside.rename(path)  # whoever sees it is heard
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
            return  # the end of the connection is read, too, and handled there
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if port.outgoing else 0)
        selector.modify(port.connection, wanted, port)

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
