"""The read-only look at a host: what to run there, what to send it, and how to read its answer.

The modules beside this one run on the host, on Python 3.8 or later and its standard library. They are sent on
standard input as they are, together with the salt, so that neither is seen on a command line.
"""

import base64
import json
import zlib
from functools import cache
from importlib.resources import files
from typing import Any

from rackwright.errors import HostUnreachable
from rackwright.facts.facts import FORMAT, Facts

PACKAGE = "rackwright.facts"
MODULES = (
    "digest",
    "content",
    *(
        f"probe.{name}"
        for name in (
            "observe",
            "apart",
            "superblocks",
            "health",
            "signature_check",
            "block",
            "units",
            "system",
            "credentials",
            "netlink",
            "network",
            "paths",
            "elf",
            "kernel",
            "libraries",
            "vendors",
            "accounts",
            "measures",
            "containers",
            "runs",
            "servers",
            "tracking",
            "output",
            "gpus",
            "main",
        )
    ),
)
"""In an order in which each finds those it imports."""
OF_GPUS = ("probe.observe", "probe.apart", "probe.output", "probe.gpus")
"""Enough to look at the GPUs and at nothing else."""

FACTS_BYTES = 32 << 20
"""The most that facts may have, unpacked."""
DEPTH = 32
"""The most levels that facts may have; they have 8."""

LOADER = """
import json, sys, types
if sys.version_info < (3, 8):
    sys.exit("the probe needs Python 3.8, here is " + sys.version.split()[0])
job = json.loads(sys.stdin.buffer.read())
sys.modules["rackwright.facts.probe"] = types.ModuleType("rackwright.facts.probe")
for name, source in job["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules["rackwright.facts.probe"], name.split(".")[-1], module)
    exec(compile(source, name, "exec"), module.__dict__)
module.main(job)
"""


def command() -> tuple[str, ...]:
    """Return what to run on the host, as root."""
    return ("python3", "-I", "-S", "-X", "utf8", "-c", LOADER)


def stdin(salt: bytes) -> bytes:
    """Return what the command reads; *salt* keys the digests of files (1 to 32 bytes)."""
    return json.dumps({"format": FORMAT, "salt": salt.hex(), "modules": modules()}).encode()


def stdin_for_gpus() -> bytes:
    """Return what the command reads to look at the GPUs alone: for whoever looks again and again."""
    return json.dumps({"format": FORMAT, "modules": modules(OF_GPUS)}).encode()


@cache
def modules(names: tuple[str, ...] = MODULES) -> tuple[tuple[str, str], ...]:
    package = files(PACKAGE)
    return tuple((f"{PACKAGE}.{name}", package.joinpath(f"{name.replace('.', '/')}.py").read_text()) for name in names)


def parse(stdout: bytes, host: str) -> Facts:
    """Return the facts that the command printed; a login shell may have said something before them.

    A hostile host may print anything: the facts have at most FACTS_BYTES, and at most DEPTH levels.

    Raises:
        HostUnreachable: the output of *host* is no probe's.
    """
    line = stdout.rstrip().rpartition(b"\n")[2]
    try:
        text = _unpacked(base64.b64decode(line, validate=True))
        facts = json.loads(text)
        if not isinstance(facts, dict) or _deeper(facts, DEPTH):
            raise ValueError("not the facts of a host")
        if b"\\ud" in text.lower():  # half of a pair of UTF-16, which no other text can hold
            facts = json.loads(json.dumps(facts, ensure_ascii=False).encode(errors="replace"))
        return Facts(facts)
    except (ValueError, TypeError, RecursionError, zlib.error) as error:
        said = line[:80].decode(errors="replace")
        raise HostUnreachable(
            host,
            f'the probe\'s answer ends with "{said}"',
            f"it has to be one line of packed facts, {FACTS_BYTES >> 20} MiB at most",
            "Look at what the login shell of this user prints, and at who controls the host",
        ) from error


def _unpacked(packed: bytes) -> bytes:
    """Return the text of facts.

    Raises:
        ValueError: it is longer than FACTS_BYTES, or cut off.
    """
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(packed, FACTS_BYTES)
    if not unpacking.eof:
        raise ValueError("too long, or cut off")
    return text


def _deeper(value: Any, levels: int) -> bool:
    """Return whether *value* has more than so many levels; without a call for each, of which Python takes few."""
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
