"""Network namespaces that stand for hosts and pods, with programs that listen and ask in them. Only root makes them."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LISTEN = """
import json, selectors, socket, sys
tcp, udp = json.loads(sys.argv[1])
waiting = selectors.DefaultSelector()
for kind, ports in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
    for port in ports:
        each = socket.socket(socket.AF_INET6, kind)
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            each.listen(64)
        waiting.register(each, selectors.EVENT_READ)
print("listening", flush=True)
while True:
    for key, _ in waiting.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            key.fileobj.accept()[0].close()
        else:
            print(key.fileobj.recv(65535)[:32].decode(), flush=True)
"""
"""Listen on all addresses of both families, and print the first 32 bytes of each datagram."""
ASK = """
import asyncio, json, socket, sys
async def reaches(address, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 1.5)
        writer.close()
        return True
    except (OSError, asyncio.TimeoutError):
        return False
async def main():
    return await asyncio.gather(*(reaches(*each) for each in json.load(sys.stdin)))
print(json.dumps(asyncio.run(main())))
"""
SEND = """
import json, socket, struct, sys
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
for source, address, port, text in json.load(sys.stdin):
    try:
        if source is None:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                where = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0][4]
                sender.sendto(text.encode(), where)
            continue
        data = struct.pack("!4H", 4444, port, 8 + len(text), 0) + text.encode()
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 1, 0, 64, 17, 0,
                           socket.inet_aton(source), socket.inet_aton(address))
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            sender.sendto(head[:10] + struct.pack("!H", checksum(head)) + head[12:] + data, (address, 0))
    except OSError as error:
        print(error, file=sys.stderr)
"""
"""Send datagrams; with a source, from that address, whether the namespace has it or not."""


@dataclass(frozen=True)
class Datagram:
    """A datagram to an address and port; with *source* from that address."""

    address: str
    port: int
    source: str | None = None
    padding: int = 0
    """Bytes after the text, so that a large datagram is sent in fragments."""


class Namespace:
    """A network namespace, which ends with its first process."""

    def __init__(self, name: str, process: int, directory: Path) -> None:
        self.name = name
        self.path = f"/proc/{process}/ns/net"
        self._log = directory / f"{name}.received"
        self._listeners: list[subprocess.Popen[bytes]] = []

    def inside(self, *argv: str) -> list[str]:
        """Return the command that runs *argv* in the namespace."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(self, *argv: str, input: str | None = None, check: bool = True) -> str:
        """Run *argv* in the namespace and return its output."""
        done = subprocess.run(self.inside(*argv), input=input, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{self.name}: {' '.join(argv)}: {done.stderr}"
        return done.stdout

    def ip(self, *commands: str) -> None:
        """Run commands of ip(8)."""
        self.run("ip", "-batch", "-", input="".join(f"{command}\n" for command in commands))

    def link_local(self, link: str) -> str:
        """Return the link-local address of *link*, once it may be used."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            shown = json.loads(self.run("ip", "-json", "-6", "address", "show", "dev", link, "scope", "link"))
            for address in (each for row in shown if row for each in row["addr_info"]):
                if "local" in address and not address.get("tentative"):
                    return f"{address['local']}%{link}"
            time.sleep(0.05)
        raise AssertionError(f"{self.name}: {link} has no link-local address")

    def listen(self, tcp: Sequence[int] = (), udp: Sequence[int] = (), group: Path | None = None) -> None:
        """Listen on all addresses of both families until the end of the test, in the control group *group*."""
        argv = in_group(group, self.inside(sys.executable, "-c", LISTEN, json.dumps([tcp, udp])))
        with self._log.open("a") as log:
            self._listeners.append(subprocess.Popen(argv, stdout=log))
        end = time.monotonic() + 10
        while self._log.read_text().count("listening") < len(self._listeners):
            assert time.monotonic() < end, f"{self.name} does not listen"
            time.sleep(0.02)

    def connects(
        self, targets: Sequence[tuple[str, int]], group: Path | None = None, account: str = "root"
    ) -> set[tuple[str, int]]:
        """Return those of *targets* that accept a connection from a process of *account* here, in *group*."""
        program = sys.executable if account == "root" else "/usr/bin/python3"  # accounts may not reach ours
        as_account = [] if account == "root" else ["setpriv", f"--reuid={account}", "--clear-groups"]
        argv = in_group(group, self.inside(*as_account, program, "-c", ASK))
        asked = subprocess.run(argv, input=json.dumps([*targets]), capture_output=True, text=True, check=True)
        answers = json.loads(asked.stdout)
        return {target for target, reached in zip(targets, answers, strict=True) if reached}

    def send(self, several: Sequence[Datagram], group: Path | None = None) -> list[str]:
        """Send a datagram to each target, from a process in the control group *group*.

        Returns:
            The text of each, by which it is found where it arrived.
        """
        texts = [secrets.token_hex(16) for _ in several]
        rows = [
            (each.source, each.address, each.port, text + "x" * each.padding)
            for each, text in zip(several, texts, strict=True)
        ]
        argv = in_group(group, self.inside(sys.executable, "-c", SEND))
        subprocess.run(argv, input=json.dumps(rows), capture_output=True, text=True, check=True)
        return texts

    def received(self) -> set[str]:
        """Return the texts of the datagrams that arrived here."""
        return set(self._log.read_text().split())

    def stop(self) -> None:
        for listener in self._listeners:
            listener.kill()
            listener.wait()


def in_group(group: Path | None, argv: list[str]) -> list[str]:
    """Return the command that runs *argv* in the control group *group*, if there is one."""
    return ["sh", "-euc", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *argv] if group else argv


@contextmanager
def namespaces(directory: Path, *names: str) -> Iterator[dict[str, Namespace]]:
    """Yield a namespace for each name, with its loopback up; all that listens in them ends with the block."""
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    with ExitStack() as stack:
        made: dict[str, Namespace] = {}
        for name in names:
            argv = ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]
            holder = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE))
            stack.callback(holder.kill)
            assert holder.stdout is not None and holder.stdout.readline() == b"up\n"
            made[name] = Namespace(name, holder.pid, directory)
            stack.callback(made[name].stop)
        yield made


def join(first: Namespace, link: str, second: Namespace, other: str) -> None:
    """Connect two namespaces by a cable: *link* of the first, *other* of the second."""
    process = second.path.split("/")[2]
    first.ip(f"link add {link} type veth peer name {other} netns {process}", f"link set {link} up")
    second.ip(f"link set {other} up")


def arrived(texts: Iterable[str], *places: Namespace, seconds: float = 1.0) -> set[str]:
    """Return those of *texts* that arrived at any of *places* within *seconds*."""
    wanted, end = set(texts), time.monotonic() + seconds
    found: set[str] = set()
    while found != wanted and time.monotonic() < end:
        time.sleep(0.05)
        found = set[str]().union(*(wanted & place.received() for place in places))
    return found


def nft(namespace: Namespace, *arguments: str, input: str | None = None) -> Any:
    """Run nft in *namespace*, and return the objects that it lists."""
    output = namespace.run("nft", "-j", *arguments, input=input)
    return json.loads(output)["nftables"] if output.strip() else []
