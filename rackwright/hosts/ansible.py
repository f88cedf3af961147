"""Playing roles with Ansible: one run for each role and whoever asks for it at the same time, results by host."""

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from typing import Any

from rackwright.core.contract import PlayRole
from rackwright.hosts.memory import private
from rackwright.hosts.pool import Hosts
from rackwright.hosts.session import NotDone
from rackwright.progress import Progress
from rackwright.schema.ssh import Endpoint, Login

WINDOW_SECONDS = 0.5
"""How long a run waits for others of its role that nobody said were coming."""
COMING_SECONDS = 30.0
"""How long it waits for those whose turn has begun too, and who are still being looked at: to begin once more for each
of them costs more, and one that hangs delays nobody for longer."""
POLL_SECONDS = 0.1
FORKS = 32


@dataclass
class _Asked:
    """One host that takes part in a run."""

    variables: Mapping[str, Any]
    progress: Progress
    failure: str | None = "Ansible ended before it came to this host"
    """Why it failed; None once its last task has ended well."""
    changed: list[str] = field(default_factory=list)


@dataclass
class _Run:
    """A run to be: it takes hosts until it begins."""

    asked: dict[str, _Asked] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)


class Plays:
    """What plays the roles of a checkout on the hosts of one process. Any thread may call."""

    def __init__(
        self,
        root: Path,
        hosts: Hosts,
        redact: Callable[[str], str],
        coming: Callable[[str], Set[str]] = lambda role: frozenset(),
    ) -> None:
        """
        Args:
            root: The checkout with ``roles/`` and ``playbooks/``.
            redact: Takes secrets out of what Ansible says, before any of it is cut off and no longer known for one.
            coming: Tells the hosts whose turn to get a role has begun; those of them who have not asked yet may do so.
        """
        self._root, self._hosts, self._veiled, self._coming = root, hosts, redact, coming
        self._gathering: dict[str, _Run] = {}
        self._came: dict[str, set[str]] = defaultdict(set)
        """The hosts that have asked, by role: nobody waits for them once more."""
        self._guard = threading.Lock()

    def play(self, step: PlayRole, host: str, progress: Progress) -> None:
        """Play the role on *host*, whose lock the caller holds, and return when its last task has ended well.

        Raises:
            NotDone: a task failed on this host; what the others of the run did is theirs.
        """
        connection = self._hosts.connection(host)
        asked = _Asked({**connection_variables(connection.endpoint, connection.login), **step.variables}, progress)
        with self._guard:
            run, first = self._gathering.get(step.role), False
            if run is None:
                run, first = _Run(), True
                self._gathering[step.role] = run
            run.asked[host] = asked
            self._came[step.role].add(host)
        if first:
            self._gather(step.role, run)
            self._begin(step.role, run)
        run.over.wait()
        if asked.failure is not None:
            raise NotDone(asked.failure)
        if asked.changed:
            progress(f"changed: {', '.join(asked.changed)}")

    def _gather(self, role: str, run: _Run) -> None:
        """Wait for those who ask at the same time, and for those who are about to."""
        began = time.monotonic()
        while (seconds := time.monotonic() - began) < COMING_SECONDS and not self._hosts.cancelled:
            if seconds >= WINDOW_SECONDS and self._coming(role) <= self._came[role]:
                return
            time.sleep(POLL_SECONDS)

    def _begin(self, role: str, run: _Run) -> None:
        with self._guard:
            del self._gathering[role]
        try:
            self._run(role, run)
        except Exception as error:
            for asked in run.asked.values():
                asked.failure = self._veiled(f"Ansible could not be run: {error}")
        finally:
            run.over.set()

    def _run(self, role: str, run: _Run) -> None:
        import ansible_runner

        inventory = {role: {"hosts": {host: dict(asked.variables) for host, asked in run.asked.items()}}}
        with private() as directory:
            (directory / "ansible.cfg").touch()
            done = ansible_runner.run(
                private_data_dir=str(directory),
                playbook=str(self._root / "playbooks/role.yml"),
                inventory=inventory,
                envvars=_environment(self._root, directory),
                extravars={"role": role},
                quiet=True,
                event_handler=lambda event: _note(event, run.asked, self._veiled),
                cancel_callback=lambda: self._hosts.cancelled,
            )
            # whatever its status: it has none where a signal ended it, and 0 where it took no host for its own
            if all(asked.failure == _Asked.failure for asked in run.asked.values()):
                said = " / ".join(done.stdout.read().strip().splitlines()[-3:])
                raise RuntimeError(said or f"it ended with {done.rc}")


def connection_variables(endpoint: Endpoint, login: Login) -> dict[str, Any]:
    """Return by what Ansible reaches *endpoint* as we do: the same key, the same pin, the same host in between."""
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
        "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),  # nobody else's settings
        "ANSIBLE_ROLES_PATH": str(root / "roles"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        # one connection for all tasks of a host, gone soon after the last
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=15s",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory / "connections"),
        "ANSIBLE_FORKS": str(FORKS),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_TIMEOUT": "60",  # until it is root: on a host that is busy with other work, ten seconds are not enough
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_NOCOLOR": "1",
    }


def _note(event: Mapping[str, Any], asked: Mapping[str, _Asked], redact: Callable[[str], str]) -> bool:
    """Take in what Ansible tells while it runs; False lets it keep no copy."""
    data = event.get("event_data", {})
    task, result = redact(str(data.get("task", ""))), data.get("res") or {}
    match event.get("event"):
        case "playbook_on_task_start":
            for each in asked.values():
                each.progress(task)
        case "runner_on_ok" if result.get("changed"):
            asked[data["host"]].changed.append(task)
        case "runner_on_failed" if not data.get("ignore_errors"):
            asked[data["host"]].failure = f"task {task!r}: {_reason(result, redact)}"
        case "runner_on_unreachable":
            asked[data["host"]].failure = f"task {task!r}: not reached: {_reason(result, redact)}"
        case "playbook_on_stats":
            for host in data.get("ok", {}):
                if not (data.get("failures", {}).get(host) or data.get("dark", {}).get(host)):
                    asked[host].failure = None
    return False


def _reason(result: Mapping[str, Any], redact: Callable[[str], str]) -> str:
    """Return why a task failed, in its own words; of a loop, of the first item that failed."""
    for item in result.get("results", ()):
        if item.get("failed"):
            return _reason(item, redact)
    says_more = result.get("msg") != "non-zero return code"  # all that the message of a command says
    order = ("msg", "stderr", "stdout", "censored") if says_more else ("stderr", "stdout", "msg", "censored")
    said = next(filter(None, map(result.get, order)), "no word why")
    return redact(" ".join(redact(str(said)).split()))[:500]
