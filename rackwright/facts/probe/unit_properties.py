"""The settings of running services, slices and scopes, as systemd shows them."""

from __future__ import annotations

from typing import Any

from rackwright.facts.probe.loads import RUNNING
from rackwright.facts.probe.observe import ReadError, run_tool

LIMITS = {
    "CPU": "Max cpu time", "FSIZE": "Max file size", "DATA": "Max data size", "STACK": "Max stack size",
    "CORE": "Max core file size", "RSS": "Max resident set", "NOFILE": "Max open files", "AS": "Max address space",
    "NPROC": "Max processes", "MEMLOCK": "Max locked memory", "LOCKS": "Max file locks",
    "SIGPENDING": "Max pending signals", "MSGQUEUE": "Max msgqueue size", "RTPRIO": "Max realtime priority",
    "RTTIME": "Max realtime timeout",
}  # fmt: skip
"""Limits of systemd by their names in /proc/PID/limits. Source: systemd.exec(5); fs/proc/base.c of Linux."""
SANDBOX = {
    "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateNetwork", "PrivateIPC", "PrivateUsers", "ProtectSystem",
    "ProtectHome", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
    "ProtectProc", "ProcSubset", "ProtectHostname", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "ExecPaths",
    "NoExecPaths", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "DynamicUser", "RootDirectory", "RootImage",
    "MountAPIVFS", "LogNamespace", "MountImages", "ExtensionImages", "ExtensionDirectories", "NetworkNamespacePath",
}  # fmt: skip
"""Settings with which systemd gives a service mounts of its own. Source: systemd, src/core/execute.c."""
ENVIRONMENT = ("Environment", "EnvironmentFiles", "PassEnvironment", "UnsetEnvironment")
RIGHTS = (
    "NoNewPrivileges", "CapabilityBoundingSet", "SystemCallFilter", "RestrictAddressFamilies", "RestrictNamespaces",
    "MemoryDenyWriteExecute", "LockPersonality", "User", "PAMName",
)  # fmt: skip
GROUP = (
    "MemoryMax", "MemoryHigh", "MemorySwapMax", "CPUQuotaPerSecUSec", "TasksMax", "IOReadBandwidthMax",
    "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax", "IODeviceLatencyTargetUSec",
)  # fmt: skip
PROPERTIES = (
    "Id", "MainPID", "ControlPID", "FragmentPath", "ControlGroup", "ExecStartEx", "JoinsNamespaceOf",
    "IPCNamespacePath", "PrivatePIDs", "DelegateNamespaces", *ENVIRONMENT, *RIGHTS, *GROUP, *sorted(SANDBOX),
    *(f"Limit{name}{end}" for name in LIMITS for end in ("", "Soft")),
)  # fmt: skip
GROUP_UNITS = (".service", ".slice", ".scope")
OF_PODS = ("kubepods", "cri-containerd-", "crio-")
"""Groups that kubelet and its runtime make, and whose limits they set by themselves."""


def properties(units: dict[str, Any]) -> list[dict[str, list[str]]]:
    """Return the properties of all running services, slices and scopes that systemd itself has made."""
    return show(
        sorted(
            name
            for name, unit in units.items()
            if name.endswith(GROUP_UNITS) and unit["active"] in RUNNING and not name.startswith(OF_PODS)
        )
    )


def show(names: list[str]) -> list[dict[str, list[str]]]:
    """Return the properties of units; some have several lines."""
    output = run_tool("systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", *names) if names else ""
    rows = []
    for paragraph in output.split("\n\n"):
        values: dict[str, list[str]] = {}
        for line in paragraph.splitlines():
            key, equals, value = line.partition("=")
            if equals and key in PROPERTIES:
                values.setdefault(key, []).append(value)
        if "Id" in values:
            rows.append(values)
    if len(rows) != len(names):
        raise ReadError(f"systemctl shows {len(rows)} of {len(names)} units")
    return rows


def first(values: dict[str, list[str]], key: str) -> str:
    return values.get(key, [""])[0]


def amount(text: str) -> float:
    return float("inf") if text in ("unlimited", "infinity", "max", "18446744073709551615") else float(text)


def format_limit(value: float) -> str:
    return "infinity" if value == float("inf") else str(int(value))
