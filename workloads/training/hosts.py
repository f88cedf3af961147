"""Start, watch and stop one run on several hosts.

    python -m workloads.training.hosts RUN.json start       on the launcher host; returns when the run ends
    python -m workloads.training.hosts RUN.json await       on the launcher host; waits for each rank's first step
    python -m workloads.training.hosts RUN.json check       on each host; checks its packages and data
    python -m workloads.training.hosts RUN.json ready|logged|close    commands that the launcher host runs on the others

The launcher host is the first host of the run. RUN.json differs between hosts in ``host`` alone; `LaunchPlan` describes
it. The launcher host starts processes on the other hosts by ``ssh``. For an elastic run it calls ``discover``, which
lists the available hosts. Both commands must be in PATH.
"""

import hashlib
import json
import os
import platform
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.training.metrics import elastic_name, file_of
from workloads.training.plan import LaunchHost, LaunchPlan, commands, process_environment, ssh_command

if TYPE_CHECKING:
    from workloads.tracking import TrackingServer

POLL_SECONDS = 1.0
SSH_SECONDS = 60
LOG_BYTES = 16 << 20
"""Size above which the log is rotated: its content moves to log.1 in the account's directory."""
LAST_LINES = 10
FAILED = re.compile(r"Process (\d+) exit with status code ([1-9]\d*)")
REFUSED = re.compile(r"exit with status code 2\b|exitcode *: 2\b")


def run_on_host(plan: LaunchPlan, host: LaunchHost, verb: str, closes_connection: bool = False) -> str | None:
    """Return the output of *verb* on *host*; None if the host is unreachable or the command fails.

    Args:
        closes_connection: The command ends its own SSH connection, so its exit status is not known.
    """
    argv = [sys.executable, "-m", "workloads.training.hosts", str(plan.config.parent / "run.json"), verb]
    try:
        done = subprocess.run(
            ssh_command(host, {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PYTHONSAFEPATH": "1"}, argv),
            capture_output=True, text=True, timeout=SSH_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print_line(f"{host.name}: no answer after {SSH_SECONDS} s")
        return None
    if done.returncode and not closes_connection:
        print_line(f"{host.name}: `{verb}` ended with {done.returncode}: {done.stderr.strip() or 'no reason given'}")
        return None
    return done.stdout


# --- the launcher host ----------------------------------------------------------------------------------------------


def start(plan: LaunchPlan) -> int:
    """Start processes on all hosts and wait for them; return 0 if finished or stopped, 2 if refused, else 1."""
    before = load_state(plan)
    if (before.get("outcome"), before.get("config")) == ("finished", plan.digest):
        print_line("the run has already finished")
        with track_plan(plan):
            return 0
    rotate_log(plan)
    attempt = int(before.get("attempt", 0)) + 1
    save_state(plan, attempt=attempt, outcome=None)
    print_line(f"start {attempt} of {plan.name}: {plan.world} processes by {plan.launcher} on {_names(plan.hosts)}")
    hosts, fingerprints = [plan.hosts[0]], {plan.hosts[0].name: prepare_host(plan)}
    for host in plan.other_hosts:
        if (output := run_on_host(plan, host, "ready")) is not None:
            hosts.append(host)
            fingerprints[host.name] = output.strip()
    missing = [host for host in plan.hosts if host not in hosts]
    if missing and len(hosts) * plan.processes < plan.required_processes:
        print_line(f"not reached: {_names(missing)}; the run needs {plan.required_processes} processes")
        save_state(plan, attempt=attempt, outcome="failed", why=f"not reached: {_names(missing)}")
        return 1
    plan.out.mkdir(parents=True, exist_ok=True)
    provenance = {**plan.provenance, "hosts": fingerprints, "code": code_digest()}
    (plan.out / "provenance.json").write_text(json.dumps(provenance, indent=2, sort_keys=True) + "\n")
    with track_plan(plan):
        result = LaunchedProcesses(plan, commands(plan, hosts)).wait()
    save_state(plan, attempt=attempt, outcome=result.outcome, why=result.why)
    print_line(f"{plan.name}: {result.outcome}{f', {result.why}' if result.why else ''}")
    if result.outcome == "finished":
        for host in plan.other_hosts:
            run_on_host(plan, host, "close", closes_connection=True)
    return result.status


@contextmanager
def track_plan(plan: LaunchPlan) -> Iterator[None]:
    """Send the run's progress to its MLflow server while the context is open, and the rest at the end.

    Only the launcher host sends: the training processes have no account at the server.
    """
    server = _server(plan)
    if server is None or plan.tracking is None:
        yield
        return
    from workloads.training.tracking import track_journal

    elastic = elastic_name({"HOROVOD_HOSTNAME": plan.hosts[0].address})
    journal = file_of(plan.out, "0" if plan.min_processes is None else elastic)
    with track_journal(server, plan.out, journal.name, plan.tracking["register"]):
        yield


def _server(plan: LaunchPlan) -> "TrackingServer | None":
    """Return the MLflow server of the run, without a request to it.

    Raises:
        UserError: The certificate or the credentials are missing.
    """
    if plan.tracking is None:
        return None
    from workloads.tracking import connect
    from workloads.tracking.server import CERTIFICATE, CREDENTIALS

    files = {CREDENTIALS: plan.tracking["credentials"], CERTIFICATE: plan.tracking["certificate"]}
    return connect(plan.tracking["url"], files)


@dataclass(frozen=True)
class LaunchResult:
    outcome: str
    """finished, stopped or failed."""
    status: int
    why: str = ""


class LaunchedProcesses:
    """The launcher's processes. On SIGTERM the local training process saves, and passes the request to the others."""

    def __init__(self, plan: LaunchPlan, commands: Sequence[Sequence[str]]) -> None:
        self._plan, self._stop_requested, self._first_failed, self._refused = plan, False, "", False
        self._writing = threading.Lock()
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self._processes = [
            subprocess.Popen(
                argv, env={**os.environ, **process_environment(plan)}, cwd=plan.home, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
            )
            for argv in commands
        ]  # fmt: skip
        self._listeners = [threading.Thread(target=self._read_output, args=(process,)) for process in self._processes]
        for listener in self._listeners:
            listener.start()

    def wait(self) -> LaunchResult:
        while any(process.poll() is None for process in self._processes):
            if any(process.poll() for process in self._processes):
                self._terminate()
            time.sleep(POLL_SECONDS / 4)
        for listener in self._listeners:
            listener.join()
        statuses = [process.returncode for process in self._processes]
        if self._stop_requested:
            return LaunchResult("stopped", 0)
        if not any(statuses):
            return LaunchResult("finished", 0)
        return LaunchResult("failed", 2 if self._refused else 1, self._first_failed or f"ended with {statuses}")

    def _read_output(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            with self._writing:
                sys.stdout.write(line)
                sys.stdout.flush()
                rotate_log(self._plan)
            if (match := FAILED.search(line)) and not self._first_failed:
                self._first_failed = f"rank {match[1]} ended with {match[2]}"
            self._refused = self._refused or REFUSED.search(line) is not None

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop_requested:
            return
        self._stop_requested = True
        print_line("stop requested: the run saves a checkpoint first")
        for pid in training_processes():
            os.kill(pid, signal.SIGTERM)
        timer = threading.Timer(self._plan.grace_seconds, self._terminate)
        timer.daemon = True  # otherwise this program would end only after the whole period, long after its processes
        timer.start()

    def end(self, why: str) -> None:
        """End all processes at once, because of *why*, without a checkpoint."""
        self._first_failed = self._first_failed or why
        print_line(why)
        self._terminate()

    def _terminate(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()


def await_first_step(plan: LaunchPlan, seconds: float) -> int:
    """Return 0 when each rank has logged a step of this start, or when the run has finished.

    Return 4 if the run ends first; print the last lines of the rank that failed.
    """
    deadline, is_started = time.monotonic() + seconds, False
    while time.monotonic() < deadline:
        state = load_state(plan)
        if state.get("outcome") == "finished":
            return 0
        is_started = is_started or state.get("outcome") is None
        if is_started and state.get("outcome") in ("failed", "stopped"):
            print("\n".join(last_lines(plan.log.read_text(errors="replace"))))
            print(f"{plan.name} {state['outcome']}: {state.get('why') or 'no reason given'}")
            return 4
        names = {*files_with_steps(plan)}
        for host in plan.other_hosts if names else ():
            names |= {*(run_on_host(plan, host, "logged") or "").split()}
        if len(names) >= plan.required_processes:
            return 0
        time.sleep(POLL_SECONDS)
    print("\n".join(last_lines(plan.log.read_text(errors="replace"))))
    print(f"{plan.name}: after {seconds:.0f} s not all of {plan.required_processes} processes have logged a step")
    return 4


def last_lines(log: str) -> list[str]:
    """Return the last lines of the rank that failed first, or of all ranks if the log names none."""
    lines = log.splitlines()
    newest = max((number for number, line in enumerate(lines) if line.startswith("start ")), default=0)
    failed_rank = next((match[1] for line in lines[newest:] if (match := FAILED.search(line))), None)
    own = [line for line in lines[newest:] if failed_rank is not None and line.startswith(f"[{failed_rank}]<")]
    return (own or lines[newest:])[-LAST_LINES:]


# --- each host ------------------------------------------------------------------------------------------------------


def check_host(plan: LaunchPlan) -> None:
    """Raise if this host lacks a package, data or the server's files, before any process starts.

    Raises:
        UserError: The message names what is missing.
    """
    for module in ("torch", *(["horovod"] if plan.launcher == "horovod" else [])):
        if find_spec(module) is None:
            help = f"Install {module} on {plan.host}" + (", or set launcher: torchrun" * (module == "horovod"))
            problem = f"{sys.prefix} has no {module}"
            raise UserError(Diagnostic(f"{plan.host}: environment", problem, help=help, note="the run imports it"))
    if plan.data is not None and not Path(plan.data).exists():
        help = f"Copy the data to {plan.host}, or correct `data`"
        problem, note = f"{plan.data} does not exist", "every host of the run reads it"
        raise UserError(Diagnostic(f"{plan.host}: data", problem, help=help, note=note))
    if plan.host == plan.hosts[0].name:
        _server(plan)


def prepare_host(plan: LaunchPlan) -> str:
    """Kill the training processes of earlier starts, mark a new start, and return the fingerprint of this host."""
    for pid in training_processes():
        os.kill(pid, signal.SIGKILL)
    (plan.home / "started").touch()
    return fingerprint()


def files_with_steps(plan: LaunchPlan) -> Iterator[str]:
    """Yield the names of the files in which a rank has logged a step since the start."""
    start_mark = plan.home / "started"
    if not start_mark.exists():
        return
    for path in plan.out.glob("metrics*.jsonl"):
        if path.stat().st_mtime_ns > start_mark.stat().st_mtime_ns and '"step":' in _last_line(path):
            yield path.name


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return file.read().decode(errors="replace").strip().rpartition("\n")[2]


def close_host(plan: LaunchPlan) -> None:
    """Save that the run has finished, and end the sshd that the launcher host logs in to."""
    save_state(plan, outcome="finished")
    os.kill(int((plan.home / "door.pid").read_text()), signal.SIGTERM)


def fingerprint() -> str:
    """Return a digest of what can change results on this host: machine, kernel, packages, GPU driver."""
    packages = subprocess.run(["dpkg-query", "-W"], capture_output=True, check=False).stdout
    parts = [Path("/etc/machine-id"), Path("/proc/driver/nvidia/version")]
    texts = [path.read_bytes() if path.exists() else b"" for path in parts]
    kernel = " ".join((platform.system(), platform.release(), platform.machine())).encode()
    return hashlib.sha256(b"\0".join([kernel, packages, *texts])).hexdigest()


def code_digest() -> str:
    """Return the digest of the archive that this module is imported from; ``none`` for a directory."""
    archive = Path(__file__).parents[2]
    return hashlib.sha256(archive.read_bytes()).hexdigest() if archive.is_file() else "none"


def training_processes() -> Iterator[int]:
    """Yield the process IDs of this account's training processes on this host, without their launchers."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if directory.stat().st_uid != os.getuid():
                continue
            argv = (directory / "cmdline").read_text().split("\0")
        except OSError:
            continue  # the process has ended
        if "-m" in argv and argv[argv.index("-m") + 1] == "workloads.training":
            yield int(directory.name)


def load_state(plan: LaunchPlan) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((plan.home / "state.json").read_text())
    except FileNotFoundError:
        return {}
    return state


def save_state(plan: LaunchPlan, **values: Any) -> None:
    new_file = plan.home / "state.json.new"
    new_file.write_text(json.dumps({"config": plan.digest, **values}))
    new_file.replace(plan.home / "state.json")


def print_line(text: str) -> None:
    print(text, flush=True)


def _names(hosts: Sequence[LaunchHost]) -> str:
    return ", ".join(host.name for host in hosts)


def rotate_log(plan: LaunchPlan, descriptor: int = 1) -> None:
    """Copy a log of more than LOG_BYTES to log.1 in the account's directory, and empty the log.

    Root owns the log's directory, so the log is emptied through *descriptor*, which systemd opened for appending.
    """
    output = os.fstat(descriptor)
    if not stat.S_ISREG(output.st_mode) or output.st_size <= LOG_BYTES:
        return
    # If there is no space for the copy, the log continues to grow: a run's output must never wait for its log.
    with suppress(OSError), plan.log.open("rb") as log:
        if os.path.samestat(output, os.fstat(log.fileno())):  # False if the run was started by hand into another file
            (plan.home / "log.1").write_bytes(log.read())
            os.ftruncate(descriptor, 0)


@as_command
def main() -> int:
    parser = new_parser("workloads.training.hosts", __doc__)
    parser.add_argument("plan", type=Path, metavar="RUN.json")
    parser.add_argument("verb", choices=("start", "await", "check", "ready", "logged", "close"))
    parser.add_argument("--seconds", type=float, default=600, help="time limit of await (default 600)")
    args = parser.parse_args()
    plan = LaunchPlan.read(args.plan)
    match args.verb:
        case "start":
            return start(plan)
        case "await":
            return await_first_step(plan, args.seconds)
        case "check":
            check_host(plan)
        case "ready":
            print(prepare_host(plan))
        case "logged":
            print("\n".join(files_with_steps(plan)))
        case "close":
            close_host(plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
