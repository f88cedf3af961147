"""The probe: the command that reads the facts of a host, its standard input, and the parser of its output.

The other modules of this package run on the host, on Python 3.8 or later and its standard library. They travel
unchanged on standard input, together with the salt, so that neither appears on a command line.
"""

import base64
import json
import re
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts.facts import FORMAT, Facts
from rackwright.foreign import parse_object

PACKAGE = "rackwright.facts"
INTERPRETER = "/usr/bin/python3"
"""Interpreter of the distribution. A name alone finds another program first: sudo searches /usr/local/sbin and bin."""
MODULES = (
    "digest",
    "content",
    *(
        f"probe.{name}"
        for name in (
            "observe",
            "isolate",
            "superblocks",
            "health",
            "signature_check",
            "arrays",
            "block",
            "encryption",
            "storage_behaviour",
            "units",
            "digest_cache",
            "system",
            "credentials",
            "netlink",
            "network",
            "paths",
            "elf",
            "kernel",
            "bpf_programs",
            "packet_paths",
            "declared_objects",
            "kubernetes",
            "libraries",
            "nftables",
            "offers",
            "vendors",
            "accounts",
            "rights",
            "schedules",
            "packaged",
            "sources",
            "pam_profiles",
            "authorities",
            "binary_indexes",
            "grammars",
            "unit_links",
            "kubeadm_files",
            "name_services",
            "netplan_files",
            "host_names",
            "generated_files",
            "missing",
            "file_walk",
            "file_rights",
            "dpkg_lists",
            "integrity_cache",
            "file_integrity",
            "package_database",
            "service_state",
            "python_environments",
            "account_files",
            "boot",
            "archives",
            "processes",
            "measures",
            "containers",
            "runs",
            "servers",
            "tracking",
            "object_store",
            "trials",
            "loads",
            "unit_properties",
            "control_groups",
            "service_processes",
            "factors",
            "proof",
            "log_segments",
            "log_chain",
            "output",
            "gpus",
            "main",
        )
    ),
)
"""Modules of the probe, each after the modules that it imports."""
GPU_MODULES = ("probe.observe", "probe.isolate", "probe.output", "probe.gpus")
"""Modules that suffice to read the GPUs alone."""

FACTS_BYTES = 32 << 20
"""Maximum size of facts after decompression."""
DEPTH = 32
"""Maximum number of levels in facts; the probe writes 8."""
VALUES = 4_000_000
"""Maximum number of values in facts; those of a host with 10,000 services have 300,000."""
HALF_PAIR = re.compile(rb"\\u[dD]")
"""Half of a UTF-16 pair, which UTF-8 cannot encode; a regular expression finds it in a third of the time of ``in``."""

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
    """Return the command to run on the host, as root."""
    return (INTERPRETER, "-I", "-S", "-X", "utf8", "-c", LOADER)


def stdin(salt: bytes, nonce: str = "", key_types: Sequence[str] = (), account_of_files: bool = True) -> bytes:
    """Return the standard input of the command.

    Args:
        salt: The key of the digests of files, 1 to 32 bytes.
        nonce: A number that is used once, which the host signs with its own key.
        key_types: The types of keys whose signatures the caller can verify; empty for all.
        account_of_files: Whether to judge every file of the system; otherwise this account is unknown.
    """
    job = {"format": FORMAT, "salt": salt.hex(), "nonce": nonce, "key_types": [*key_types]}
    return json.dumps({**job, "account_of_files": account_of_files, "modules": modules()}).encode()


def stdin_for_gpus() -> bytes:
    """Return the standard input with which the command reads the GPUs alone, for repeated reads."""
    return json.dumps({"format": FORMAT, "modules": modules(GPU_MODULES)}).encode()


@cache
def modules(names: tuple[str, ...] = MODULES) -> tuple[tuple[str, str], ...]:
    package = files(PACKAGE)
    return tuple((f"{PACKAGE}.{name}", package.joinpath(f"{name.replace('.', '/')}.py").read_text()) for name in names)


def parse(stdout: bytes, host: str) -> Facts:
    """Return the facts in the last line that the command printed; a login shell may print lines before it.

    A hostile host may print anything, so the facts have at most FACTS_BYTES bytes and DEPTH levels.

    Raises:
        HostUnreachable: *host* printed no output of a probe.
    """
    line = stdout.rstrip().rpartition(b"\n")[2]
    try:
        text = _decompress(base64.b64decode(line, validate=True))
        facts = parse_object(text, FACTS_BYTES, DEPTH, VALUES, lenient=True, finite=True)
        if HALF_PAIR.search(text):
            facts = json.loads(json.dumps(facts, ensure_ascii=False).encode(errors="replace"))
        return Facts(facts)
    except (ValueError, TypeError, zlib.error) as error:
        ending = line[:80].decode(errors="replace")
        raise HostUnreachable(
            Diagnostic(
                host,
                f'the answer of the probe is not valid; it ends with "{ending}"',
                f"one line of compressed facts, {FACTS_BYTES >> 20} MiB at most",
                "Check the output of this user's login shell, and who controls the host",
            )
        ) from error


def _decompress(compressed: bytes) -> bytes:
    """Return the decompressed text of facts.

    Raises:
        ValueError: the text is longer than FACTS_BYTES, or truncated.
    """
    decompressor = zlib.decompressobj()
    text = decompressor.decompress(compressed, FACTS_BYTES)
    if not decompressor.eof:
        raise ValueError("too long, or truncated")
    return text
