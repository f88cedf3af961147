"""How large a packet passes to each peer and back in one piece: echoes that nobody on the way may take apart.

Whom to ask is said by a file that the declaration puts on the host; without it nothing is sent.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import Any, Callable, NamedTuple

from rackwright.facts.probe.observe import ReadError, read, unknown

PEERS = "/etc/rackwright/peers"
SMALL = 68
"""Bytes that every way has to carry in one piece. Source: RFC 791, section 3.2."""
SECONDS, SEARCH_SECONDS = 0.5, 0.2
"""How long answers are waited for at most: to the first echoes, to their repetition, and in each round of a search."""
RUNGS, ROUNDS = 20, 3
"""Sizes that are tried at once, and how often: a round leaves a 21st of them, so three find one of 9,000 exactly."""
BUFFER = 32 << 20
"""Bytes that may wait in a socket: all peers are asked at once, and answer at once."""
SEND_FORCED, RECEIVE_FORCED = 32, 33
"""SO_SNDBUFFORCE and SO_RCVBUFFORCE, include/uapi/asm-generic/socket.h."""
WHOLE = 3
"""IP_PMTUDISC_PROBE: do not fragment, whatever is remembered of the way. Source: include/uapi/linux/in.h, in6.h."""
ECHO = struct.Struct(">BBHHH")
"""Type, code, checksum, identifier, number. Source: RFC 792, RFC 4443."""


class Family(NamedTuple):
    """What IPv4 and IPv6 call the same things, in include/uapi/linux/in.h and in6.h."""

    number: int
    protocol: int
    level: int
    discover: int
    """IP_MTU_DISCOVER."""
    pieces: int
    """IP_RECVFRAGSIZE: it comes with a packet that arrived in pieces."""
    request: int
    reply: int
    header: int
    """Bytes before ICMP's own."""


IPV4 = Family(socket.AF_INET, socket.IPPROTO_ICMP, socket.IPPROTO_IP, 10, 25, request=8, reply=0, header=20)
IPV6 = Family(socket.AF_INET6, socket.IPPROTO_ICMPV6, socket.IPPROTO_IPV6, 23, 77, request=128, reply=129, header=40)


class PeerPath:
    """The way from an address of this host to one of another's."""

    def __init__(self, own: str, peer: str, size: int) -> None:
        self.own, self.peer, self.size = own, peer, size
        self.passed = 0
        """The largest that came back in one piece."""
        self.lost = size
        """The smallest above it that did not."""
        self.silence = f"{peer} does not answer"

    def result(self) -> dict[str, Any]:
        return {"asked": self.size, "passed": self.passed} if self.passed else unknown(self.silence)


Ask = Callable[["dict[PeerPath, list[int]]", float], None]


def paths(root: str) -> dict[str, Any]:
    """Return by the peer's address what was asked for and what passed."""
    asked = peers(root)
    echoes = Echoes()
    try:
        measure([path for path in asked if echoes.can_send(path)], echoes.ask)
    finally:
        echoes.close()
    return {path.peer: path.result() for path in asked}


def peers(root: str) -> list[PeerPath]:
    """Return whom to ask, as lines of the file say: own address, the peer's, bytes, and what is for people."""
    if not os.path.exists(f"{root}{PEERS}"):
        raise ReadError(f"there is no {PEERS}")
    lines = [line.split() for line in read(f"{root}{PEERS}").splitlines() if not line.startswith("#")]
    return [PeerPath(own, peer, int(size)) for own, peer, size, *_ in lines]


def measure(asked: list[PeerPath], ask: Ask) -> None:
    """Find for each path the largest size that passes, up to the one that is asked for.

    What is lost is sent once more: the first may have been lost over the question for the peer's hardware address.
    Where only the small echo comes back, sizes in between are tried.
    """
    for _ in range(2):
        left = [path for path in asked if path.passed < path.size]
        ask({path: [size for size in (SMALL, path.size) if size > path.passed] for path in left}, SECONDS)
    for _ in range(ROUNDS):
        tried = {path: rungs(path) for path in asked if 0 < path.passed < path.size}
        ask(tried, SEARCH_SECONDS)
        for path, sizes in tried.items():
            path.lost = min((size for size in (*sizes, path.lost) if size > path.passed), default=path.size)


def rungs(path: PeerPath) -> list[int]:
    """Return sizes between what passed and what was lost, and the whole again: it may have been lost by chance."""
    steps = {path.passed + (path.lost - path.passed) * step // (RUNGS + 1) for step in range(1, RUNGS + 1)}
    return sorted((steps - {path.passed}) | {path.size})


class Echoes:
    """Sockets for echoes, one for each address of this host, and what is under way."""

    def __init__(self) -> None:
        self._sockets: dict[str, Any] = {}
        """By own address: its socket, or the error why there is none."""
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._number = 0
        self._sent: dict[tuple[str, int], tuple[PeerPath, int]] = {}
        """By the peer and the number of an echo: whose it is, and its size."""

    def close(self) -> None:
        for raw in self._sockets.values():
            if not isinstance(raw, OSError):
                raw.close()

    def can_send(self, path: PeerPath) -> bool:
        """Return whether there is a socket for *path*; otherwise it says why it stays silent."""
        if path.own not in self._sockets:
            try:
                self._sockets[path.own] = opened(path.own)
            except OSError as error:
                self._sockets[path.own] = error
        raw = self._sockets[path.own]
        if isinstance(raw, OSError):
            path.silence = f"nothing can be sent from {path.own}: {raw.strerror}"
        return not isinstance(raw, OSError)

    def ask(self, sizes: dict[PeerPath, list[int]], seconds: float) -> None:
        """Send echoes of these sizes along each path, and note what comes back, until all has or the time is over."""
        waiting = {(path, size) for path, several in sizes.items() for size in several}
        for path, size in waiting:
            self._send(path, size)
        poll, by_file = select.poll(), {}
        for raw in {self._sockets[path.own] for path in sizes}:
            by_file[raw.fileno()] = raw
            poll.register(raw, select.POLLIN)
        end = time.monotonic() + seconds
        while waiting and (left := end - time.monotonic()) > -seconds:
            # after its time is over, only what has come meanwhile: this process may have had to wait for its turn
            ready = poll.poll(max(left, 0) * 1000)
            if not ready:
                break
            for file, _ in ready:
                waiting.discard(self._receive(by_file[file]))

    def _send(self, path: PeerPath, size: int) -> None:
        family = family_of(path.own)
        self._number = (self._number + 1) & 0xFFFF
        self._sent[path.peer, self._number] = path, size
        total = (family.request << 8) + self._identifier + self._number  # the zeros behind it add nothing
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF  # of IPv6 the kernel writes its own
        head = ECHO.pack(family.request, 0, checksum, self._identifier, self._number)
        try:
            self._sockets[path.own].sendto(head + bytes(size - family.header - ECHO.size), (path.peer, 0))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:  # that the own link takes less is told by what passes
                path.silence = f"nothing can be sent to {path.peer}: {error.strerror}"

    def _receive(self, raw: socket.socket) -> tuple[PeerPath, int] | None:
        """Return what one packet answers, if it came in one piece: otherwise the way back takes less."""
        data, extra, _, address = raw.recvmsg(1 << 16, socket.CMSG_SPACE(4))
        family = IPV6 if raw.family == socket.AF_INET6 else IPV4
        if family is IPV6:
            data = bytes(family.header) + data  # it comes without
        kind, _, _, identifier, number = ECHO.unpack_from(data, family.header)
        answered = self._sent.get((address[0], number))
        if answered is None or (kind, identifier, len(data)) != (family.reply, self._identifier, answered[1]):
            return None
        if any(option == family.pieces for _, option, _ in extra):
            return None
        path, size = answered
        path.passed = max(path.passed, size)
        return answered


def opened(own: str) -> socket.socket:
    """Return a socket for echoes from an address of this host."""
    family = family_of(own)
    raw = socket.socket(family.number, socket.SOCK_RAW, family.protocol)
    try:
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, SEND_FORCED, BUFFER)
        raw.setsockopt(socket.SOL_SOCKET, RECEIVE_FORCED, BUFFER)
        raw.setsockopt(family.level, family.discover, WHOLE)
        raw.setsockopt(family.level, family.pieces, 1)
        raw.bind((own, 0))
    except OSError:
        raw.close()
        raise
    return raw


def family_of(address: str) -> Family:
    return IPV6 if ":" in address else IPV4
