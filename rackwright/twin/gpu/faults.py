"""Faults of GPUs in a twin. An injection returns when the probe sees the fault on the host."""

import json
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackwright.errors import DeclarationError, Diagnostic, StepFailed
from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.facts.gpu import GpuFacts, Xid
from rackwright.facts.view import UnknownFact
from rackwright.schema.catalogue import GPUS
from rackwright.twin.gpu import state
from rackwright.twin.twin import Twin

HOT_CELSIUS = 97
FULL_PERCENT = 98


@dataclass(frozen=True, slots=True)
class GpuFault:
    """A fault as lines of the GPU's state file, with the test whether the probe sees it."""

    lines: Callable[[str], Mapping[str, Any]]
    """Function from the GPU's model to the lines of its part; None removes a line."""
    is_visible: Callable[[GpuFacts, Sequence[Xid]], bool]
    """Function that takes the GPU and its errors in the kernel log, and returns whether the fault is visible."""
    error: str = ""
    """Message that the driver writes to the kernel log, from the Xid code on; empty for none."""


def _busy(model: str) -> dict[str, Any]:
    used = GPUS[model].memory * FULL_PERCENT // 100
    return {"memory_used_bytes": used, "utilisation_percent": FULL_PERCENT, "process": f"4242 {used} python3"}


FAULTS: Mapping[str, GpuFault] = {
    "lost": GpuFault(
        lambda model: {"lost": 1},
        lambda gpu, errors: gpu.condition == "lost" and any(error.code == 79 for error in errors),
        "79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    ),
    "xid": GpuFault(
        lambda model: {},
        lambda gpu, errors: any(error.code == 31 for error in errors),
        "31, pid=4242, name=python3, Ch 00000010, MMU Fault",
    ),
    "ecc": GpuFault(
        lambda model: {"uncorrected_errors": 1},
        lambda gpu, errors: bool(gpu.uncorrected_errors),
        "48, pid='<unknown>', name=<unknown>, DBE (double bit error)",
    ),
    "hot": GpuFault(
        lambda model: {"temperature_celsius": HOT_CELSIUS}, lambda gpu, errors: gpu.temperature_celsius == HOT_CELSIUS
    ),
    "busy": GpuFault(_busy, lambda gpu, errors: gpu.utilisation_percent == FULL_PERCENT and bool(gpu.processes)),
    "clear": GpuFault(
        lambda model: {**state.IDLE, "uncorrected_errors": 0, "lost": None, "process": None},
        lambda gpu, errors: gpu.condition == "working" and not gpu.uncorrected_errors and not gpu.processes,
    ),
}
"""The faults by name. Messages in the kernel log of a virtual machine stay until its next start, as on a real host."""

_DO = """
import fcntl, json, os, re, stat, sys, time
job = json.load(sys.stdin)
with open(job["path"], "r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    parts = file.read().split("[gpu]\\n")
    for key, value in job["lines"].items():
        part = re.sub(f"(?m)^{key}=.*\\n", "", parts[job["index"] + 1])
        parts[job["index"] + 1] = part if value is None else f"{key}={value}\\n{part}"
    file.seek(0)
    file.truncate()
    file.write("[gpu]\\n".join(parts))
of_a_container = stat.S_ISREG(os.stat("/dev/kmsg").st_mode)
if job["forgive"] and of_a_container:
    os.truncate("/dev/kmsg", 0)
if job["error"]:
    log = os.open("/dev/kmsg", os.O_WRONLY | os.O_APPEND)
    before = f"3,0,{time.monotonic() * 1e6:.0f},-;" if of_a_container else "<3>"
    os.write(log, f"{before}{job['error']}\\n".encode())  # without an end the kernel waits for more
"""


def inject(twin: Twin, host: str, index: int, name: str) -> None:
    """Inject the fault *name* into the GPU *index* of *host*.

    Raises:
        DeclarationError: The host has no such GPU.
        StepFailed: The probe does not see the fault: no driver is installed, or the host is off.
    """
    fault, models = FAULTS[name], twin.machine(host).gpus
    if index not in range(len(models)):
        expected = f"a number from 0 to {len(models) - 1}" if models else "a host whose profile has GPUs"
        help = f"Name another {'GPU' if models else 'host'}"
        raise DeclarationError(Diagnostic(f"{host}: GPU {index}", "the host has no such GPU", expected, help))
    _gpus(host, probe_gpus(twin, host))  # loads the driver; loading it later would clear the fault
    error = f"NVRM: Xid (PCI:{state.pci_address(index)[:-2]}): {fault.error}" if fault.error else ""
    job = {"path": state.PATH, "index": index, "lines": fault.lines(models[index]), "error": error}
    job["forgive"] = name == "clear"
    _run(twin, host, ("python3", "-c", _DO), json.dumps(job).encode())
    facts = probe_gpus(twin, host)
    try:
        errors = [xid for xid in facts.xids if state.pci_address(index).startswith(xid.pci)]
        visible = fault.is_visible(_gpus(host, facts)[index], errors)
    except UnknownFact as reason:
        raise _not_visible_error(host, f"GPU {index}", str(reason)) from None
    if not visible:
        raise _not_visible_error(host, f"GPU {index}", "the probe sees no change")


def probe_gpus(twin: Twin, host: str) -> Facts:
    """Return the facts that the probe reads about the GPUs of *host*."""
    return probe.parse(_run(twin, host, probe.command(), probe.stdin_for_gpus()), host)


def _gpus(host: str, facts: Facts) -> Sequence[GpuFacts]:
    try:
        return facts.gpus
    except UnknownFact as reason:
        raise _not_visible_error(host, "GPUs", str(reason)) from None


def _run(twin: Twin, host: str, command: Sequence[str], stdin: bytes) -> bytes:
    run = subprocess.run(twin.ssh(host, shlex.join(("sudo", "-n", *command))), input=stdin, capture_output=True)
    if run.returncode:
        raise _not_visible_error(host, "GPUs", run.stderr.decode(errors="replace").strip() or "the host did not answer")
    return run.stdout


def _not_visible_error(host: str, subject: str, reason: str) -> StepFailed:
    problem = f"the host does not see the fault: {reason}"
    help = "Install a GPU driver on the host, and check that the host is on"
    return StepFailed(Diagnostic(f"{host}: {subject}", problem, help=help))
