"""Reader of the verdicts about hosts, which keeps work of its own host away from hosts in quarantine.

It runs as root on each host of a monitored fleet, on its standard library. A run of it reads the chain of verdicts from
the monitoring host, keeps the last whole chain, and applies it: a load balancer sends nothing to members on hosts in
quarantine, a control plane cordons their nodes, and runs that this host launches stop after a checkpoint until the end
of the quarantine. While the monitoring host is away, the last chain counts.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1
NAMESPACE = "rackwright-verdict"
NO_HASH = "0" * 64
CHAIN_BYTES = 4 << 20
"""The receiver writes no longer chain."""
LINE_BYTES = 8192
SECONDS = 10
UNREAD_SECONDS = 600
"""Time without a chain that was read, after which the unit fails."""
FIELDS = {"receiver", "number", "previous", "time", "event", "host", "cause", "detail", "reason", "format"}
NAME = re.compile("[a-z0-9-]{1,63}")
ANNOTATION = "rackwright.io/quarantine"
"""Marks a node that this program has cordoned, so that it ends no cordon of others."""
TABLE = "rackwright_quarantine"
KUBECTL = ("/usr/bin/kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", f"--request-timeout={SECONDS}s")


class Places(NamedTuple):
    """The paths of the program, which tests replace."""

    settings: Path = Path("/etc/rackwright/quarantine_reader")
    state: Path = Path("/var/lib/rackwright-quarantine-reader")
    """The last whole chain, the time at which it was read, and the runs that are held."""
    run: Path = Path("/run/rackwright-quarantine-reader")
    """``hosts`` with the names of the hosts in quarantine, for the programs of other roles and runs."""
    runs: Path = Path("/etc/rackwright/runs")


PLACES = Places()


class WrongChain(Exception):
    """The chain is not whole, or was not read."""


def main(arguments: list[str], places: Places = PLACES) -> int:
    """Read and apply the verdicts; return 1 if they were not applied, or were not read for long.

    ``end`` ends all that was applied, when the role is taken away; at a shutdown of the host it changes nothing.
    """
    settings: dict[str, Any] = json.loads((places.settings / "settings.json").read_text(encoding="utf-8"))
    inside: list[str] = []
    problem = ""
    if not arguments:
        verdicts, problem = read(settings, places)
        inside = hosts_inside(verdicts, settings["hosts"], settings["limit"])
    elif arguments != ["end"]:
        sys.exit("usage: rackwright-quarantine-reader [end]")
    elif is_shutting_down():
        return 0
    failed = apply(inside, settings, places)
    for each in failed:
        print(each, file=sys.stderr)
    return 1 if is_unread_for_long(places.state / "read", problem) or failed else 0


def read(settings: Mapping[str, Any], places: Places) -> tuple[list[Line], str]:
    """Return the verdicts of now and no problem, or those that were read last and the problem."""
    kept, receiver = places.state / "verdicts", settings["receiver"]
    content = kept.read_bytes() if kept.exists() else b""
    try:
        found = fetch(settings, places.settings)
        verdicts = parse(found, receiver)
        # signatures of lines that were kept before were checked then
        verify(verdicts[content.count(b"\n") if found.startswith(content) else 0 :], places.settings / "verdicts.pub")
        if found != content:
            replace(kept, found)
        (places.state / "read").touch()
        return verdicts, ""
    except (OSError, WrongChain, http.client.HTTPException, subprocess.SubprocessError) as error:
        problem = f"the verdicts of {receiver} are not read: {error}"
    try:
        return parse(content, receiver), problem
    except WrongChain:
        return [], f"{problem}; the earlier ones are of another monitoring host"


def is_unread_for_long(mark: Path, problem: str) -> bool:
    """Print a *problem* of reading that lasts, and return whether there is one.

    Args:
        mark: File that the last success touched.
    """
    if not problem:
        return False
    if not mark.exists():
        mark.touch()  # the time of a first problem counts from here
    seconds = time.time() - mark.stat().st_mtime
    # a clock that was set back says nothing about the time: that counts as long
    if 0 <= seconds < UNREAD_SECONDS:
        return False
    print(f"{problem}; the last verdicts count since {seconds:.0f} s", file=sys.stderr)
    return True


# --- the chain ------------------------------------------------------------------------------------------------------


def fetch(settings: Mapping[str, Any], directory: Path) -> bytes:
    """Return the complete lines of the chain at the monitoring host.

    Raises:
        OSError: It is not reached, or is another host.
        WrongChain: Its answer is none, or too long.
    """
    context = ssl.create_default_context(cafile=str(directory / "authority.crt"))
    context.load_cert_chain(str(directory / "client.crt"), str(directory / "client.key"))
    deadline = time.monotonic() + 6 * SECONDS
    connection = http.client.HTTPSConnection(settings["address"], settings["port"], timeout=SECONDS, context=context)
    try:
        connection.request("GET", "/verdicts", headers={"connection": "close"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise WrongChain(f"the answer is {answer.status}")
        content = b""
        while len(content) <= CHAIN_BYTES:
            part = answer.read(min(1 << 16, CHAIN_BYTES + 1 - len(content)))
            if not part:
                break
            content += part
            if time.monotonic() > deadline:
                raise WrongChain("the answer takes too long")
    finally:
        connection.close()
    if len(content) > CHAIN_BYTES:
        raise WrongChain(f"the chain has more than {CHAIN_BYTES} bytes")
    return content[: content.rfind(b"\n") + 1]


class Line(NamedTuple):
    """A verdict as it was written, with its signature."""

    verdict: dict[str, Any]
    signature: bytes
    number: int
    """Number of the line, from 1."""


def parse(content: bytes, receiver: str) -> list[Line]:
    """Return the lines of a chain, without a check of their signatures.

    Raises:
        WrongChain: A line has another form, is of another receiver, or does not continue the one before it.
    """
    lines: list[Line] = []
    previous = NO_HASH
    for number, text in enumerate(content.split(b"\n")[:-1], 1):
        try:
            data: Any = json.loads(text[: LINE_BYTES + 1])
            verdict: dict[str, Any] = data["verdict"]
            signature = base64.b64decode(data["signature"], validate=True)
            right = canonical({"signature": data["signature"], "verdict": verdict}) == text and is_verdict(verdict)
        except (ValueError, TypeError, KeyError, RecursionError):
            right = False
        if not right:
            raise WrongChain(f"line {number} has not the form of a verdict")
        if verdict["receiver"] != receiver:
            raise WrongChain(f"line {number} is of another monitoring host")
        if (verdict["number"], verdict["previous"]) != (number - 1, previous):
            raise WrongChain(f"line {number} does not continue the one before it")
        previous = hashlib.sha256(canonical(verdict)).hexdigest()
        lines.append(Line(verdict, signature, number))
    return lines


def is_verdict(data: Any) -> bool:
    if not isinstance(data, dict) or data.keys() != FIELDS or data["format"] != FORMAT:
        return False
    if any(type(data[name]) is not int for name in ("number", "format")):
        return False
    if not all(isinstance(data[name], str) for name in FIELDS - {"number", "format"}):
        return False
    return NAME.fullmatch(data["host"]) is not None and data["event"] in ("began", "ended")


def verify(lines: list[Line], key: Path) -> None:
    """Check the signatures of *lines* by the public *key* of the receiver.

    Raises:
        WrongChain: The key has not signed a line.
    """
    for line in lines:
        content = canonical(line.verdict)
        fields = (NAMESPACE.encode(), b"", b"sha512", hashlib.sha512(content).digest())
        signed = b"SSHSIG" + b"".join(struct.pack(">I", len(field)) + field for field in fields)
        # openssl reads what it checks with a key of Ed25519 from a file alone
        with tempfile.NamedTemporaryFile() as text, tempfile.NamedTemporaryFile() as signature:
            text.write(signed)
            text.flush()
            signature.write(line.signature)
            signature.flush()
            argv = ["/usr/bin/openssl", "pkeyutl", "-verify", "-rawin", "-in", text.name]
            argv += ["-pubin", "-inkey", str(key), "-sigfile", signature.name]
            done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS)
        if done.returncode:
            raise WrongChain(f"the key of the receiver has not signed line {line.number}")


def hosts_inside(lines: list[Line], hosts: list[str], limit: int) -> list[str]:
    """Return the hosts in quarantine: of too many ones with verdicts, those with the earliest."""
    since: dict[str, None] = {}
    for line in lines:
        host = line.verdict["host"]
        if line.verdict["event"] == "ended":
            since.pop(host, None)
        elif host in hosts:
            since.setdefault(host)
    return [*since][:limit]


def canonical(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def replace(path: Path, content: bytes) -> None:
    """Write a file as a whole."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)


# --- its consequences on this host ----------------------------------------------------------------------------------


def apply(inside: list[str], settings: Mapping[str, Any], places: Places) -> list[str]:
    """Keep work away from the hosts in *inside*, and return what failed; each part is tried."""
    replace(places.run / "hosts", "".join(f"{host}\n" for host in inside).encode())
    failed: list[str] = []
    parts: dict[str, Callable[[], None]] = {"runs": lambda: hold_runs(inside, places)}
    if settings["members"]:
        parts["load balancer"] = lambda: refuse_members(inside, settings["members"])
    if settings["cordons"]:
        parts["nodes"] = lambda: cordon(inside)
    for name, change in parts.items():
        try:
            change()
        except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", b"") or b""
            failed.append(f"{name}: {error} {output.decode(errors='replace')[:500]}".strip())
    return failed


def run(*argv: str, input: str = "", seconds: float = 3 * SECONDS) -> str:
    """Return the output of a command that ends well."""
    # its messages are shown when it fails; kubectl's list of nodes is bounded by the cluster
    done = subprocess.run(argv, input=input.encode(), capture_output=True, check=True, timeout=seconds)
    return done.stdout.decode()


def refuse_members(inside: list[str], services: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse new connections of this host to members on hosts in quarantine; nginx asks another member then.

    A service whose members are all in quarantine keeps them: an answer of a failing host is better than none.
    """
    rules = []
    for members in services.values():
        away = [endpoint for endpoint, host in members.items() if host in inside]
        if len(away) < len(members):
            for endpoint in away:
                address, _, port = endpoint.rpartition(":")
                family = "ip6" if address.startswith("[") else "ip"
                to = f"{family} daddr {address.strip('[]')} tcp dport {int(port)}"
                rules.append(f"{to} ct state new reject with tcp reset")
    # the first line makes the second one valid at the first time; all of them are one change
    text = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
    if rules:
        chain = "type filter hook output priority -10; policy accept;"
        body = "\n".join(sorted({*rules}))
        text += f"table inet {TABLE} {{\nchain output {{\n{chain}\n{body}\n}}\n}}\n"
    run("/usr/sbin/nft", "-f", "-", input=text)


def cordon(inside: list[str]) -> None:
    """Cordon the nodes in quarantine, and end the cordons that this program made and are over."""
    nodes = json.loads(run(*KUBECTL, "get", "nodes", "--output=json"))["items"]
    for node in nodes:
        name = node["metadata"]["name"]
        own = ANNOTATION in (node["metadata"].get("annotations") or {})
        if name in inside and not own and not node["spec"].get("unschedulable"):
            patch_node(name, True)
        elif name not in inside and own:
            patch_node(name, False)


def patch_node(name: str, away: bool) -> None:
    annotations = {ANNOTATION: "true" if away else None}
    patch = {"metadata": {"annotations": annotations}, "spec": {"unschedulable": away or None}}
    run(*KUBECTL, "patch", "node", name, "--type=merge", f"--patch={json.dumps(patch)}")


def hold_runs(inside: list[str], places: Places) -> None:
    """Stop the runs of this launcher host that use hosts in quarantine, and start those again whose hosts are well.

    An elastic run goes on without a worker in quarantine, since the list of its hosts leaves the worker out.
    """
    held_file = places.state / "held.json"
    held: list[str] = json.loads(held_file.read_text(encoding="utf-8")) if held_file.exists() else []
    wanted = {name for name, plan in plans(places.runs).items() if must_wait(plan, inside)}
    for name in sorted(wanted - {*held}):
        if is_active(name):
            # on record first: a run that was stopped and not noted would never start again
            held = [*held, name]
            replace(held_file, json.dumps(held).encode())
    for name in held:
        if name in wanted and is_active(name):
            print(f"run {name} stops after a checkpoint: {', '.join(inside)} in quarantine", file=sys.stderr)
            run("/usr/bin/systemctl", "stop", "--no-block", unit(name))
    for name in [each for each in held if each not in wanted]:
        if (places.runs / name / "run.json").exists():
            print(f"run {name} goes on: its hosts are not in quarantine", file=sys.stderr)
            run("/usr/bin/systemctl", "start", "--no-block", unit(name))
        held = [each for each in held if each != name]
        replace(held_file, json.dumps(held).encode())


def plans(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the plans of the runs that this host launches, by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob("*/run.json")):
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["host"] == plan["hosts"][0]["name"]:
            found[path.parent.name] = plan
    return found


def must_wait(plan: Mapping[str, Any], inside: list[str]) -> bool:
    """Return whether a run cannot go on without the hosts in quarantine."""
    names = [host["name"] for host in plan["hosts"]]
    if not {*names} & {*inside}:
        return False
    least = plan["min_processes"]
    well = [name for name in names if name not in inside]
    return least is None or names[0] in inside or len(well) * plan["processes"] < least


def is_shutting_down() -> bool:
    done = subprocess.run(["/usr/bin/systemctl", "is-system-running"], stdout=subprocess.PIPE, timeout=SECONDS)
    return done.stdout.strip() == b"stopping"


def unit(name: str) -> str:
    return f"training-{name}.service"


def is_active(name: str) -> bool:
    """Return whether a run works or is about to: one that lost a worker is started again and again."""
    argv = ["/usr/bin/systemctl", "show", "--property=ActiveState", "--value", unit(name)]
    state = subprocess.run(argv, stdout=subprocess.PIPE, timeout=SECONDS, check=True).stdout.strip()
    return state in (b"active", b"activating", b"reloading")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
