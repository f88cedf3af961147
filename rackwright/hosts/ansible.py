"""Play roles with Ansible: one run per role for all hosts that need it at the same time."""

import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from typing import Any

import yaml

from rackwright.core.contract import PlayRole
from rackwright.hosts.memory import private
from rackwright.hosts.pool import Hosts
from rackwright.hosts.session import NotDone
from rackwright.process_tree import guard_command
from rackwright.progress import Progress
from rackwright.schema.ssh import Endpoint, Login

WINDOW_SECONDS = 0.5
"""Seconds that a run waits for further hosts that have not been announced."""
COMING_SECONDS = 30.0
"""Longest wait in seconds for hosts whose rollout slot has begun and that are still being probed.

A separate run for each of them costs more. A host that hangs delays the others for no longer than this."""
POLL_SECONDS = 0.1
FORKS = 32
INVENTORY = "inventory.yml"
"""Name of the inventory's file."""


@dataclass
class _Participant:
    """A host that takes part in a run."""

    variables: Mapping[str, Any]
    progress: Progress
    failure: str | None = "Ansible ended before it came to this host"
    """Reason of the failure; None after the last task succeeded."""
    changed: list[str] = field(default_factory=list)


@dataclass
class _Run:
    """A run of a role. Hosts can join until it begins."""

    participants: dict[str, _Participant] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)


class Plays:
    """Player of the roles on the hosts of one process. Any thread may call it."""

    def __init__(
        self,
        root: Path,
        hosts: Hosts,
        redact: Callable[[str], str],
        coming: Callable[[str], Set[str]] = lambda role: frozenset(),
    ) -> None:
        """
        Args:
            root: The directory with ``roles/`` and ``playbooks/``.
            redact: Removes secrets from the output of Ansible, before the output is shortened.
            coming: Returns the hosts whose rollout slot for a role has begun; some of them may not have called yet.
        """
        self._root, self._hosts, self._redact, self._coming = root, hosts, redact, coming
        self._gathering: dict[str, _Run] = {}
        self._came: dict[str, set[str]] = defaultdict(set)
        """The hosts that have joined a run, by role. No run waits for them again."""
        self._guard = threading.Lock()

    def play(self, step: PlayRole, host: str, progress: Progress) -> None:
        """Play the role on *host*, whose lease the caller holds, and return after its last task succeeded.

        Raises:
            NotDone: a task failed on this host. Failures on other hosts of the run do not count.
        """
        connection = self._hosts.connection(host)
        participant = _Participant(
            {**connection_variables(connection.endpoint, connection.login), **step.variables}, progress
        )
        with self._guard:
            run, first = self._gathering.get(step.role), False
            if run is None:
                run, first = _Run(), True
                self._gathering[step.role] = run
            run.participants[host] = participant
            self._came[step.role].add(host)
        if first:
            self._gather(step.role, run)
            self._begin(step.role, run)
        run.over.wait()
        if participant.failure is not None:
            raise NotDone(participant.failure)
        if participant.changed:
            progress(f"changed: {', '.join(participant.changed)}")

    def _gather(self, role: str, run: _Run) -> None:
        """Wait for the hosts that join at the same time, and for those that are about to."""
        began = time.monotonic()
        while (seconds := time.monotonic() - began) < COMING_SECONDS and not self._hosts.is_cancelled:
            if seconds >= WINDOW_SECONDS and self._coming(role) <= self._came[role]:
                return
            time.sleep(POLL_SECONDS)

    def _begin(self, role: str, run: _Run) -> None:
        with self._guard:
            del self._gathering[role]
        try:
            self._run(role, run)
        except Exception as error:
            for participant in run.participants.values():
                participant.failure = self._redact(f"Ansible could not be run: {error}")
        finally:
            run.over.set()

    def _run(self, role: str, run: _Run) -> None:
        from ansible_runner import interface

        hosts = {host: dict(participant.variables) for host, participant in run.participants.items()}
        with private() as directory:
            (directory / "ansible.cfg").touch()
            inventory = directory / INVENTORY
            inventory.write_text(inventory_text({role: {"hosts": hosts}}))
            done = interface.init_runner(
                private_data_dir=str(directory),
                playbook=str(self._root / "playbooks/role.yml"),
                inventory=str(inventory),
                envvars=_environment(self._root, directory),
                extravars={"role": role},
                quiet=True,
                event_handler=lambda event: _handle_event(event, run.participants, self._redact),
                cancel_callback=lambda: False,  # without one, it would take the signals of this process
            )
            with self._guard_tree(directory / "life") as life:
                done.config.command = guard_command(done.config.command, life)
                done.run()
            # the status is no evidence: a run that a signal ended has none, and a run that matched no host has 0
            if all(participant.failure == _Participant.failure for participant in run.participants.values()):
                output = " / ".join(done.stdout.read().strip().splitlines()[-3:])
                raise RuntimeError(output or f"it ended with {done.rc}")

    @contextmanager
    def _guard_tree(self, path: Path) -> Iterator[str]:
        """Yield the path of a FIFO at which a guard sees the end of this process, and a cancellation, in time.

        ansible-runner itself kills the first process of Ansible alone, and only up to five seconds after a
        cancellation. The workers of Ansible have sessions of their own, and so has the connection that they share.
        """
        os.mkfifo(path, 0o600)
        life = os.open(path, os.O_RDWR)  # does not wait for the guard
        over = threading.Event()

        def watch() -> None:
            while not over.wait(POLL_SECONDS) and not self._hosts.is_cancelled:
                pass
            os.close(life)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield str(path)
        finally:
            over.set()
            watcher.join()


def inventory_text(groups: Mapping[str, Any]) -> str:
    """Return Ansible's inventory of *groups*, in which no key and no value is a template.

    Texts of fleets and secrets stand in it. Ansible renders all texts of an inventory as templates, on this computer,
    unless the tag ``!unsafe`` stands before them; it then covers the whole mapping. JSON has no such tag: its form
    ``{"__ansible_unsafe": …}`` does not cover keys, and a fleet could contain its other forms.
    """
    plain = json.loads(json.dumps(groups))  # no types of ours, which YAML would refuse
    return yaml.dump(_Unsafe(plain), Dumper=_Dumper, sort_keys=False, width=2**31 - 1)


class _Unsafe(dict[str, Any]):
    """A mapping whose keys and values, at any depth, are no templates."""


class _Dumper(yaml.CSafeDumper):
    """libyaml without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(_Unsafe, lambda dumper, data: dumper.represent_mapping("!unsafe", data))


def connection_variables(endpoint: Endpoint, login: Login) -> dict[str, Any]:
    """Return the variables by which Ansible reaches *endpoint* with the same key, pinned host key and jump host."""
    options = _options(endpoint, login)
    if jump := endpoint.jump:
        through = next((each for each in jump.logins if each.name == login.name), jump.logins[0])
        via = ["ssh", *_options(jump, through), "-p", str(jump.port), "-W", "[%h]:%p", f"{through.user}@{jump.address}"]
        options += ["-o", f"ProxyCommand={join(via)}"]
    return {
        "ansible_host": endpoint.address,
        "ansible_port": endpoint.port,
        "ansible_user": login.user,
        "ansible_become": bool(login.become),
        "ansible_pipelining": True,  # without it Ansible asks for a terminal, which tools may not have
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": join(options),
    }


def _options(endpoint: Endpoint, login: Login) -> list[str]:
    options = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    options += ["-o", f"UserKnownHostsFile={endpoint.known_hosts}", "-o", "GlobalKnownHostsFile=none"]
    options += ["-o", "IdentitiesOnly=yes", "-i", login.key] if login.key else []
    options += ["-o", f"CertificateFile={login.certificate}"] if login.certificate else []
    return options


def _environment(root: Path, directory: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),  # and no settings of the user or the computer
        "ANSIBLE_ROLES_PATH": str(root / "roles"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        # one connection for all tasks of a host, gone soon after the last
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=15s",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory / "connections"),
        "ANSIBLE_FORKS": str(FORKS),
        "ANSIBLE_INVENTORY_ENABLED": "yaml",  # no other plugin reads, or runs, the file
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_TIMEOUT": "60",  # seconds until it is root: a busy host needs more than ten
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_NOCOLOR": "1",
    }


def _handle_event(
    event: Mapping[str, Any], participants: Mapping[str, _Participant], redact: Callable[[str], str]
) -> bool:
    """Record an event of a running Ansible. Return False, so that ansible-runner keeps no copy."""
    data = event.get("event_data", {})
    task, result = redact(str(data.get("task", ""))), data.get("res") or {}
    match event.get("event"):
        case "playbook_on_task_start":
            for each in participants.values():
                each.progress(task)
        case "runner_on_ok" if result.get("changed"):
            participants[data["host"]].changed.append(task)
        case "runner_on_failed" if not data.get("ignore_errors"):
            participants[data["host"]].failure = f"task {task!r}: {_reason(result, redact)}"
        case "runner_on_unreachable":
            participants[data["host"]].failure = f"task {task!r}: not reached: {_reason(result, redact)}"
        case "playbook_on_stats":
            for host in data.get("ok", {}):
                if not (data.get("failures", {}).get(host) or data.get("dark", {}).get(host)):
                    participants[host].failure = None
    return False


def _reason(result: Mapping[str, Any], redact: Callable[[str], str]) -> str:
    """Return the reason that a failed task reports; for a loop, the reason of its first failed item."""
    for item in result.get("results", ()):
        if item.get("failed"):
            return _reason(item, redact)
    says_more = result.get("msg") != "non-zero return code"  # the message of every command that failed
    order = ("msg", "stderr", "stdout", "censored") if says_more else ("stderr", "stdout", "msg", "censored")
    text = next(filter(None, map(result.get, order)), "no reason given")
    return redact(" ".join(redact(str(text)).split()))[:500]
