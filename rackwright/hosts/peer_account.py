"""The account of a connection to this computer's loopback interface, from the kernel's socket tables."""

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

ESTABLISHED = 1
"""The only state in which the kernel reports the account: that of a closed socket reads as 0, which is root."""
SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, NLMSG_ERROR = 20, 1, 2
NETLINK_SOCK_DIAG = 4
HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBxI2s2s16s16sIII")
"""inet_diag_req_v2: family, protocol, extensions, states, ports, addresses, interface, cookie."""
ANSWER = struct.Struct("=BBBB2s2s16s16sIIIIIIII")
"""inet_diag_msg: family, state, timer, retransmissions, ports, addresses, interface, cookie, expiry, queues, account,
inode."""
ANY_COOKIE = 0xFFFFFFFF
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class End(NamedTuple):
    """One end of a connection."""

    address: Address
    port: int


def account_of(peer: str, port: int) -> int | None:
    """Return the account of the socket *peer*, connected to the local *port*; None if it is unknown.

    Args:
        peer: The name in gRPC: ``ipv4:127.0.0.1:40000`` or ``ipv6:%5B::1%5D:40000``.
    """
    family, _, rest = unquote(peer).partition(":")
    host, _, number = rest.rpartition(":")
    try:
        theirs = End(_plain(ipaddress.ip_address(host.strip("[]"))), int(number))
    except ValueError:
        return None
    if family not in ("ipv4", "ipv6") or not theirs.address.is_loopback:
        return None
    ours = End(theirs.address, port)
    answer = _ask_kernel(theirs, ours)
    return answer if answer is not None else _in_tables(theirs, ours)


def _plain(address: Address) -> Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 address; any other address unchanged."""
    return getattr(address, "ipv4_mapped", None) or address


def _ask_kernel(theirs: End, ours: End) -> int | None:
    """Return the account of the socket *theirs* from sock_diag: one look-up for any number of sockets."""
    family = socket.AF_INET if theirs.address.version == 4 else socket.AF_INET6
    ports = [end.port.to_bytes(2, "big") for end in (theirs, ours)]
    addresses = [end.address.packed.ljust(16, b"\0") for end in (theirs, ours)]
    body = REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << ESTABLISHED, *ports, *addresses, 0, ANY_COOKIE, ANY_COOKIE)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(1)
            kernel.connect((0, 0))
            kernel.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + body)
            answer = kernel.recv(4096)
    except OSError:
        return None
    if len(answer) < HEADER.size + ANSWER.size or HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
        return None
    _, state, _, _, *rest = ANSWER.unpack_from(answer, HEADER.size)
    account, inode = rest[-2:]
    if state != ESTABLISHED or rest[:2] != ports or not inode:  # sock_diag also finds listeners and closed sockets
        return None
    return int(account)


def _in_tables(theirs: End, ours: End) -> int | None:
    """Return the account of the socket *theirs* from the tables of /proc, for kernels without sock_diag."""
    accounts = {account for local, remote, account in _rows() if (local, remote) == (theirs, ours)}
    return accounts.pop() if len(accounts) == 1 else None


def _rows() -> Iterator[tuple[End, End, int]]:
    """Yield both ends and the account of each established connection."""
    for table in TABLES:
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except (OSError, ValueError):
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and int(fields[3], 16) == ESTABLISHED and fields[9] != "0":
                yield _end(fields[1]), _end(fields[2]), int(fields[7])


def _end(text: str) -> End:
    """Return ``0100007F:9C40`` as an End: each word of the address is in this machine's byte order."""
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    return End(_plain(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))), int(port, 16))
