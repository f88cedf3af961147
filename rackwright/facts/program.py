"""Programs of one file each on a host: the probe for auditors, the chain of the audit log, and metrics."""

from functools import cache

from rackwright.facts import probe
from rackwright.facts.digest import digest
from rackwright.facts.facts import FORMAT

PATH = "/usr/local/sbin/rackwright-probe"
"""Path at which role access installs the program; auditors may run it as root, without arguments."""
LOG_CHAIN_PATH = "/usr/local/sbin/rackwright-log-chain"
"""Path at which role access installs the program that chains the audit log."""
_HEAD = '''\
#!/usr/bin/python3 -ISXutf8
"""Prints the facts of this host: the probe of rackwright, as `rackwright audit` sends it by SSH.

It changes nothing, and writes only /var/cache/rackwright/digests, which makes the next probe faster. rackwright writes
this file, and restores it after a change. The program takes no arguments. Its standard input is the fleet's key of the
printed digests, as 2 to 64 hex digits.
"""
import re, sys, types

if len(sys.argv) > 1:
    sys.exit("the probe takes no arguments")
salt = sys.stdin.read(80).strip()
if not re.fullmatch("([0-9A-Fa-f]{2}){1,32}", salt):
    sys.exit("the probe takes a key of 2 to 64 hex digits on standard input")

MODULES = {
'''
_LOG_CHAIN_HEAD = '''\
#!/usr/bin/python3 -ISXutf8
"""Appends the SHA-256 of the new lines of /var/log/audit to the chain in /var/log/rackwright/audit-chain.

The timer rackwright-log-chain.timer starts it. rackwright writes this file, and restores it after a change.
"""
import sys, types

MODULES = {
'''
_METRICS_HEAD = '''\
#!/usr/bin/python3 -ISXutf8
"""{purpose}

rackwright writes this file, and restores it after a change.
"""
import sys, types

MODULES = {{
'''
_TAIL = """\
}

sys.modules["rackwright.facts.probe"] = types.ModuleType("rackwright.facts.probe")
for name, source in MODULES.items():
    module = sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules["rackwright.facts.probe"], name.split(".")[-1], module)
    exec(compile(source, name, "exec"), module.__dict__)
"""
_MAIN = """\
# a caller with another key could guess the contents of root's files from their digests
if sys.modules["rackwright.facts.digest"].digest({purpose!r}, bytes.fromhex(salt)) != "{mark}":
    sys.exit("this is not the key of the fleet that installed this probe; use the fleet's key,"
             " in .rackwright/salts of its project")
module.main({{"format": {format}, "salt": salt}})
"""
PURPOSE = b"the key that the probe of this host accepts"
"""Text whose digest under the fleet's key identifies that key; the mark has all 128 bits, so that no other key fits."""


@cache
def program(salt: bytes) -> str:
    """Return the text of the program, which accepts only *salt* as the key of its digests.

    The program contains the source of its modules unchanged, so that people can read what they run as root.
    """
    modules = "".join(f"{name!r}: {_literal(source)},\n" for name, source in probe.modules())
    return _HEAD + modules + _TAIL + _MAIN.format(purpose=PURPOSE, mark=digest(PURPOSE, salt), format=FORMAT)


def log_chain_program() -> str:
    """Return the text of the program that records the audit log in its chain, with its modules unchanged."""
    names = ("probe.log_segments", "log_append")
    modules = "".join(f"{name!r}: {_literal(source)},\n" for name, source in probe.modules(names))
    return f"{_LOG_CHAIN_HEAD}{modules}{_TAIL}module.append()\n"


def gpu_metrics_program() -> str:
    """Return the text of the program that writes metrics of the GPUs."""
    purpose = "Writes metrics of the GPUs into a file of node_exporter, for rackwright-gpu-metrics.timer."
    return _metrics_program(purpose, (*probe.GPU_MODULES, "metrics_text", "gpu_metrics"), "module.write()")


def drive_metrics_program() -> str:
    """Return the text of the program that writes metrics of drives, arrays and scrubs."""
    purpose = "Writes metrics of drives and arrays into a file of node_exporter, for rackwright-drive-metrics.timer."
    parts = ("observe", "isolate", "superblocks", "health", "signature_check", "arrays", "block", "encryption")
    names = (*(f"probe.{part}" for part in parts), "metrics_text", "drive_metrics")
    return _metrics_program(purpose, names, "module.write()")


def service_metrics_program() -> str:
    """Return the text of the program that answers with metrics of servers, runs and certificates."""
    purpose = "Answers a request for metrics of model servers, training runs and certificates."
    names = (*("probe.observe", "probe.isolate", "probe.runs", "probe.servers"), "metrics_text", "service_metrics")
    return _metrics_program(purpose, names, "module.respond()")


def health_metrics_program() -> str:
    """Return the text of the program that answers with the health of services."""
    purpose = "Answers a request for the health of this host's services, which it asks at their health URLs."
    names = ("probe.observe", "probe.isolate", "metrics_text", "health_metrics")
    return _metrics_program(purpose, names, "module.respond()")


def audit_metrics_program() -> str:
    """Return the text of the program that answers with the metrics of audits."""
    purpose = "Answers a request for the metrics of the audits that rackwright-audit.service makes."
    return _metrics_program(purpose, ("probe.observe", "metrics_text", "audit_metrics"), "module.respond()")


def cluster_metrics_program() -> str:
    """Return the text of the program that writes metrics of a cluster."""
    purpose = "Writes metrics of the cluster into a file of node_exporter, for rackwright-cluster-metrics.timer."
    names = (
        "probe.observe",
        "probe.isolate",
        "probe.declared_objects",
        "probe.kubernetes",
        "metrics_text",
        "cluster_metrics",
    )
    return _metrics_program(purpose, names, "module.write()")


def _metrics_program(purpose: str, names: tuple[str, ...], call: str) -> str:
    """Return the text of a program with the modules *names*, which are those of the probe unchanged."""
    modules = "".join(f"{name!r}: {_literal(source)},\n" for name, source in probe.modules(names))
    # the modules import others from their package, which has no file on a host
    return f"{_METRICS_HEAD.format(purpose=purpose)}{modules}{_TAIL}{call}\n"


def stdin(salt: bytes) -> bytes:
    """Return the standard input of the program; *salt* keys the digests of files."""
    return salt.hex().encode() + b"\n"


def _literal(source: str) -> str:
    """Return *source* as a Python literal: a raw triple-quoted string if possible, for readability."""
    return f"r'''{source}'''" if "'''" not in source and not source.endswith(("\\", "'")) else repr(source)
