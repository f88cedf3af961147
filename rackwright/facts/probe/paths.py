"""The largest packet that reaches each peer and returns unfragmented, measured by ICMP echoes.

A file that the declaration writes to the host lists the peers. Without that file the probe sends nothing.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import Any, Callable, NamedTuple

from rackwright.facts.probe.observe import ReadError, read, unknown_value

PEERS = "/etc/rackwright/peers"
SMALL = 68
"""Bytes that every path carries unfragmented. Source: RFC 791, section 3.2."""
SECONDS, SEARCH_SECONDS = 0.5, 0.2
"""Maximum wait for answers: to the first echoes and their repetition (SECONDS), and in each round of a search."""
SIZES_PER_ROUND, ROUNDS = 20, 3
"""Number of sizes per round, and of rounds: each round leaves 1/21 of the range, so three resolve 9,000 bytes."""
SEARCHES = 3
"""Maximum number of searches for one path: the later ones correct what late answers hid from the one before."""
BUFFER = 32 << 20
"""Size of the socket buffers in bytes: all peers receive echoes, and answer, at the same time."""
SEND_FORCED, RECEIVE_FORCED = 32, 33
"""SO_SNDBUFFORCE and SO_RCVBUFFORCE, include/uapi/asm-generic/socket.h."""
DO_NOT_FRAGMENT = 3
"""IP_PMTUDISC_PROBE: never fragment, and ignore the cached path MTU. Source: include/uapi/linux/in.h, in6.h."""
ECHO = struct.Struct(">BBHHH")
"""Type, code, checksum, identifier, number. Source: RFC 792, RFC 4443."""


class Family(NamedTuple):
    """The constants of IPv4 or IPv6 in include/uapi/linux/in.h and in6.h."""

    number: int
    protocol: int
    level: int
    discover: int
    """IP_MTU_DISCOVER."""
    pieces: int
    """IP_RECVFRAGSIZE, which accompanies a packet that arrived in fragments."""
    request: int
    reply: int
    header: int
    """Size of the IP header in bytes."""


IPV4 = Family(socket.AF_INET, socket.IPPROTO_ICMP, socket.IPPROTO_IP, 10, 25, request=8, reply=0, header=20)
IPV6 = Family(socket.AF_INET6, socket.IPPROTO_ICMPV6, socket.IPPROTO_IPV6, 23, 77, request=128, reply=129, header=40)


class PeerPath:
    """The path from an address of this host to the address of a peer."""

    def __init__(self, own: str, peer: str, size: int) -> None:
        self.own, self.peer, self.size = own, peer, size
        self.largest_passed = 0
        """Largest size that returned unfragmented."""
        self.smallest_lost = size
        """Smallest larger size that did not return."""
        self.failure = f"{peer} does not answer"
        """Reason of a missing answer."""

    def result(self) -> dict[str, Any]:
        return (
            {"asked": self.size, "passed": self.largest_passed} if self.largest_passed else unknown_value(self.failure)
        )


SendEchoes = Callable[["dict[PeerPath, list[int]]", float], None]


def paths(root: str) -> dict[str, Any]:
    """Return the required size and the largest size that passed, by the peer's address."""
    peer_paths = read_peers(root)
    echoes = Echoes()
    try:
        measure([path for path in peer_paths if echoes.can_send(path)], echoes.send)
    finally:
        echoes.close()
    return {path.peer: path.result() for path in peer_paths}


def read_peers(root: str) -> list[PeerPath]:
    """Return the paths in the file; a line has own address, peer's address, size in bytes, and a note for people."""
    if not os.path.exists(f"{root}{PEERS}"):
        raise ReadError(f"there is no {PEERS}")
    lines = [line.split() for line in read(f"{root}{PEERS}").splitlines() if not line.startswith("#")]
    return [PeerPath(own, peer, int(size)) for own, peer, size, *_ in lines]


def measure(peer_paths: list[PeerPath], send: SendEchoes) -> None:
    """Find for each path the largest size that passes, up to the required one.

    A lost echo is sent a second time, because ARP for the peer's address may drop the first one. If only the small echo
    returns, a search tries sizes in between. An answer may be late on a host with much work, so the sizes above the
    result are sent once more with the longer wait, and the search goes on if one of them passes.
    """
    for _ in range(2):
        incomplete = [path for path in peer_paths if path.largest_passed < path.size]
        send(
            {path: [size for size in (SMALL, path.size) if size > path.largest_passed] for path in incomplete}, SECONDS
        )
    limited = [path for path in peer_paths if 0 < path.largest_passed < path.size]
    for _ in range(SEARCHES):
        search(limited, send)
        found = {path: path.largest_passed for path in limited}
        send({path: next_sizes(path) for path in limited}, SECONDS)
        limited = [path for path in limited if found[path] < path.largest_passed < path.size]
        for path in limited:
            path.smallest_lost = path.size


def search(peer_paths: list[PeerPath], send: SendEchoes) -> None:
    """Narrow the range between the largest size that passed and the smallest lost one, in `ROUNDS` rounds."""
    for _ in range(ROUNDS):
        attempts = {path: sizes_to_try(path) for path in peer_paths if path.largest_passed < path.size}
        send(attempts, SEARCH_SECONDS)
        for path, sizes in attempts.items():
            path.smallest_lost = min(
                (size for size in (*sizes, path.smallest_lost) if size > path.largest_passed), default=path.size
            )


def next_sizes(path: PeerPath) -> list[int]:
    """Return the sizes right above the largest one that passed, up to the full size."""
    return [*range(path.largest_passed + 1, min(path.largest_passed + SIZES_PER_ROUND, path.size) + 1)]


def sizes_to_try(path: PeerPath) -> list[int]:
    """Return sizes between the passed and the lost one, and the full size, which may have been lost by chance."""
    steps = {
        path.largest_passed + (path.smallest_lost - path.largest_passed) * step // (SIZES_PER_ROUND + 1)
        for step in range(1, SIZES_PER_ROUND + 1)
    }
    return sorted((steps - {path.largest_passed}) | {path.size})


class Echoes:
    """The sockets for echoes, one for each address of this host, and the pending echoes."""

    def __init__(self) -> None:
        self._sockets: dict[str, Any] = {}
        """Socket of each own address, or the error that prevented it."""
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._number = 0
        self._pending: dict[tuple[str, int], tuple[PeerPath, int]] = {}
        """Path and size of each echo, by the peer's address and the number of the echo."""

    def close(self) -> None:
        for raw in self._sockets.values():
            if not isinstance(raw, OSError):
                raw.close()

    def can_send(self, path: PeerPath) -> bool:
        """Return whether there is a socket for *path*; otherwise *path* gets the reason."""
        if path.own not in self._sockets:
            try:
                self._sockets[path.own] = open_socket(path.own)
            except OSError as error:
                self._sockets[path.own] = error
        raw = self._sockets[path.own]
        if isinstance(raw, OSError):
            path.failure = f"nothing can be sent from {path.own}: {raw.strerror}"
        return not isinstance(raw, OSError)

    def send(self, sizes: dict[PeerPath, list[int]], seconds: float) -> None:
        """Send echoes of these sizes along each path, and record the answers until all have arrived or time is up."""
        waiting = {(path, size) for path, path_sizes in sizes.items() for size in path_sizes}
        for path, size in waiting:
            self._send(path, size)
        poll, by_file = select.poll(), {}
        for raw in {self._sockets[path.own] for path in sizes}:
            by_file[raw.fileno()] = raw
            poll.register(raw, select.POLLIN)
        end = time.monotonic() + seconds
        while waiting and (remaining := end - time.monotonic()) > -seconds:
            # when time is up, read only what has already arrived: this process may have waited for a processor
            ready = poll.poll(max(remaining, 0) * 1000)
            if not ready:
                break
            for file, _ in ready:
                waiting.discard(self._receive(by_file[file]))

    def _send(self, path: PeerPath, size: int) -> None:
        family = family_of(path.own)
        self._number = (self._number + 1) & 0xFFFF
        self._pending[path.peer, self._number] = path, size
        total = (family.request << 8) + self._identifier + self._number  # the zeros after the header add nothing
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF  # for IPv6 the kernel writes its own
        head = ECHO.pack(family.request, 0, checksum, self._identifier, self._number)
        try:
            self._sockets[path.own].sendto(head + bytes(size - family.header - ECHO.size), (path.peer, 0))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:  # a smaller MTU of the own link shows in the passed size
                path.failure = f"nothing can be sent to {path.peer}: {error.strerror}"

    def _receive(self, raw: socket.socket) -> tuple[PeerPath, int] | None:
        """Return the echo that a packet answers; None if it arrived in fragments, as the way back carries less then."""
        data, ancillary, _, address = raw.recvmsg(1 << 16, socket.CMSG_SPACE(4))
        family = IPV6 if raw.family == socket.AF_INET6 else IPV4
        if family is IPV6:
            data = bytes(family.header) + data  # an IPv6 socket delivers no IP header
        kind, _, _, identifier, number = ECHO.unpack_from(data, family.header)
        request = self._pending.get((address[0], number))
        if request is None or (kind, identifier, len(data)) != (family.reply, self._identifier, request[1]):
            return None
        if any(option == family.pieces for _, option, _ in ancillary):
            return None
        path, size = request
        path.largest_passed = max(path.largest_passed, size)
        return request


def open_socket(own: str) -> socket.socket:
    """Return a raw socket for echoes from the address *own* of this host."""
    family = family_of(own)
    raw = socket.socket(family.number, socket.SOCK_RAW, family.protocol)
    try:
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, SEND_FORCED, BUFFER)
        raw.setsockopt(socket.SOL_SOCKET, RECEIVE_FORCED, BUFFER)
        raw.setsockopt(family.level, family.discover, DO_NOT_FRAGMENT)
        raw.setsockopt(family.level, family.pieces, 1)
        raw.bind((own, 0))
    except OSError:
        raw.close()
        raise
    return raw


def family_of(address: str) -> Family:
    return IPV6 if ":" in address else IPV4
