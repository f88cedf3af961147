"""Services on a real systemd whose processes differ from their units, and services that differ in no way."""

import json
import sys
from typing import Any

from tests.support.systemd_machine import ROOT, SystemdMachine

READ = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from rackwright.facts.probe import control_groups, service_processes, unit_properties, units
from rackwright.facts.probe.observe import attempt
found = unit_properties.properties(units.units(""))
manager = service_processes.manager_values()
print(json.dumps({{
    "service_processes": attempt(service_processes.service_processes, "", found, manager),
    "manager_environment": attempt(service_processes.manager_environment, manager),
    "group_limits": attempt(control_groups.group_limits, "", found),
}}))
"""
PID = "$(systemctl show --value --property=MainPID $U)"
AGAIN = (
    "import os, time; os.environ.get('X') or os.execve('/usr/bin/python3',"
    " ['python3', '-c', 'import time; time.sleep(9999)'], {**os.environ, 'X': '1'})"
)
"""A program that starts itself with another environment and other arguments."""
STARTED = "started with "
"""Beginning of a change that starts the unit with other settings, which are gone afterwards."""


def started_with(settings: str) -> str:
    return f"{STARTED}{settings}"


SERVICES: dict[str, tuple[str, str, str]] = {
    "stopped": ("", f"kill -STOP {PID}", "stopped: sleep"),
    "environment": ("", started_with("Environment=LD_PRELOAD=/tmp/x.so"), "environment has LD_PRELOAD"),
    "proxy": ("", started_with("Environment=https_proxy=http://x"), "environment has https_proxy"),
    "value": (
        "Environment=MODE=right",
        started_with("Environment=MODE=wrong"),
        "environment has another value of MODE",
    ),
    "lost": ("Environment=MODE=right", started_with("UnsetEnvironment=MODE"), "environment lacks MODE"),
    "of-file": (
        "EnvironmentFile=/etc/os-release",
        started_with("Environment=HIDDEN=1"),
        "environment has HIDDEN",
    ),
    "files": ("", f"prlimit --pid={PID} --nofile=64:64", "limit NOFILE is 64"),
    "soft": ("LimitNPROC=500", f"prlimit --pid={PID} --nproc=7:500", "limit NPROC is 7, and 500 in the unit"),
    "size": ("", f"prlimit --pid={PID} --fsize=4096", "limit FSIZE is 4096, and infinity in the unit"),
    "memory": ("LimitAS=1G", started_with("LimitAS=2G"), "limit AS is 2147483648, and 1073741824 in the unit"),
    "mounts": ("", started_with("PrivateMounts=yes"), "it has mounts of its own, and the unit has none"),
    "namespace": (
        "PrivateTmp=yes",
        f"nsenter --target={PID} --mount mount --bind /etc/os-release /etc/hostname",
        "is mounted on /etc/hostname for it alone",
    ),
    "program": (
        "ProtectSystem=strict",
        f"nsenter --target={PID} --mount mount -t tmpfs tmpfs /usr/local/bin",
        "tmpfs is mounted on /usr/local/bin for it alone",
    ),
    "bound": (
        "PrivateTmp=yes",
        started_with("BindPaths=/tmp:/opt"),
        "is mounted on /opt for it alone",
    ),
    "network": ("PrivateTmp=yes", started_with("PrivateNetwork=yes"), "it has a network of its own"),
    "name": ("PrivateTmp=yes", started_with("ProtectHostname=yes"), "it has a host name of its own"),
    "queues": ("PrivateTmp=yes", started_with("PrivateIPC=yes"), "it has messages of its own"),
    "ids": ("PrivateTmp=yes", started_with("PrivateUsers=yes"), "it has accounts of its own"),
    "privileges": ("NoNewPrivileges=yes", started_with("NoNewPrivileges=no"), "it may gain rights"),
    "capabilities": (
        "CapabilityBoundingSet=CAP_CHOWN",
        started_with("CapabilityBoundingSet=CAP_SYS_ADMIN"),
        "it may have cap_sys_admin",
    ),
    "account": ("User=games", started_with("User=root"), "it runs as root, and the unit as games"),
    "child": (
        'ExecStart=\nExecStart=/bin/sh -c "sleep 1000 & exec sleep infinity"',
        "kill -STOP $(pgrep --full '^sleep 1000')",
        "stopped: sleep",
    ),
}
"""By name of a service: the settings of its unit, commands that change its process, and what is found."""
SILENT: dict[str, tuple[str, str]] = {
    "plain": ("", "true"),
    "whole": (
        "Environment=\"A=two words\" 'B=x'\nEnvironmentFile=/etc/os-release\nPrivateTmp=yes\nProtectSystem=strict\n"
        "ProtectHome=tmpfs\nPrivateDevices=yes\nProtectKernelTunables=yes\nProtectControlGroups=yes\nProtectProc=invisible\nPrivateNetwork=yes\nProtectHostname=yes\nPrivateIPC=yes\nPrivateUsers=yes\n"
        "NoNewPrivileges=yes\nSystemCallFilter=@system-service\nCapabilityBoundingSet=\nLimitNOFILE=70:900\nUser=games\n"
        "StateDirectory=whole\nRuntimeDirectory=whole\nInaccessiblePaths=/etc/ssh\nReadOnlyPaths=/var\nUMask=077",
        "true",
    ),
    "dynamic": (
        "DynamicUser=yes\nStateDirectory=dynamic\nCacheDirectory=dynamic\nLoadCredential=x:/etc/hostname",
        "true",
    ),
    "binds": ("BindReadOnlyPaths=/etc/hostname:/etc/issue\nTemporaryFileSystem=/opt:ro", "true"),
    "raises": ("", f"prlimit --pid={PID} --nofile=2000:; prlimit --pid={PID} --core=0:0"),
    "shell": ('ExecStart=\nExecStart=/bin/sh -c "export X=1 LD_LIBRARY_PATH=/opt; exec sleep infinity"', "true"),
    "again": (
        f'ExecStart=\nExecStart=/usr/bin/python3 -c "{AGAIN}"',
        "true",
    ),
    "options": (
        "EnvironmentFile=/etc/os-release\nEnvironment=OPTIONS=infinity\nExecStart=\nExecStart=/usr/bin/sleep $OPTIONS",
        "true",
    ),
    "niced": ("", f"renice -n 5 -p {PID}; ionice -c 3 -p {PID}; choom -p {PID} -n 100; taskset -p 1 {PID}"),
    "continued": ("", f"kill -STOP {PID}; kill -CONT {PID}"),
    "thawed": ("", "systemctl freeze $U; systemctl thaw $U"),
    "reloaded": ("ExecReload=/bin/true", "systemctl reload $U"),
    "edited": (
        "",
        "mkdir -p /etc/systemd/system/$U.d; systemctl daemon-reload\n"
        "printf '[Service]\\nLimitNOFILE=4096\\nEnvironment=B=2\\n' > /etc/systemd/system/$U.d/limits.conf\n"
        "systemctl daemon-reload; systemctl restart $U",
    ),
    "set": ("", "systemctl set-property $U MemoryMax=300M TasksMax=50 CPUQuota=50%"),
    "set-until-the-next-start": ("", "systemctl set-property --runtime $U MemoryHigh=200M"),
    "forked": (
        "Type=forking\nPIDFile=/run/forked.pid\nExecStart=\n"
        'ExecStart=/bin/sh -c "sleep infinity & echo $$! > /run/forked.pid"',
        "true",
    ),
    "killed": ("Restart=always\nRestartSec=0", f"P={PID}; kill -9 $P; until [ {PID} != $P ]; do sleep 0.1; done"),
    "mounted-later": ("PrivateTmp=yes\nProtectSystem=full", "mkdir -p /srv/later; mount -t tmpfs tmpfs /srv/later"),
    "files-of-it": ("EnvironmentFile=-/etc/nothing\nPassEnvironment=LANG\nEnvironment=Y=\\x41", "true"),
}
"""Settings and changes by which nothing is found."""


def read_all(machine: SystemdMachine) -> dict[str, Any]:
    """Start all services, change their processes, and return what the probe reads then.

    Under `mended` stands what it reads after the remedies of the rules.
    """
    changes = {name: change for name, (_, change, *_) in {**SERVICES, **SILENT}.items()}
    other = {name: change[len(STARTED) :] for name, change in changes.items() if change.startswith(STARTED)}
    script = ["set -e"]
    for name, (settings, *_) in {**SERVICES, **SILENT}.items():
        text = f"[Service]\nExecStart=/usr/bin/sleep infinity\n{settings}\n"
        script.append(f"cat > /etc/systemd/system/{unit(name)} <<'END'\n{text}END")
    for name, settings in other.items():
        folder = f"/run/systemd/system/{unit(name)}.d"
        script.append(f"mkdir -p {folder}; cat > {folder}/x.conf <<'END'\n[Service]\n{settings}\nEND")
    units = " ".join(map(unit, changes))
    script.append(f"systemctl daemon-reload; systemctl start {units}; systemctl is-active {units} >/dev/null")
    script.append("rm -r /run/systemd/system/changed-*; systemctl daemon-reload")
    script += [f"U={unit(name)}; {change}" for name, change in changes.items() if name not in other]
    script.append("systemctl freeze changed-raises.service; systemctl set-environment EVIL=1 LD_PRELOAD=/x.so")
    machine.run("\n".join(script))
    answer: dict[str, Any] = json.loads(machine.run([sys.executable, "-c", READ]))
    machine.run("systemctl thaw changed-raises.service; systemctl unset-environment EVIL LD_PRELOAD")
    machine.run(f"systemctl restart {' '.join(map(unit, SERVICES))}")
    answer["mended"] = json.loads(machine.run([sys.executable, "-c", READ]))
    return answer


def unit(name: str) -> str:
    return f"changed-{name}.service"
