"""One run on several hosts: start its processes from the chief, wait for their first step, and stop them.

    python -m workloads.training.hosts RUN.json start       on the chief; until the run ends
    python -m workloads.training.hosts RUN.json await       on the chief; until every rank has logged its first step
    python -m workloads.training.hosts RUN.json check       on each: what it imports and its data are there
    python -m workloads.training.hosts RUN.json ready|logged|close    what the chief asks of the others

RUN.json is the same on all hosts but for ``host``; `Plan` says what stands in it. The chief starts processes elsewhere
by ``ssh``, and of an elastic run asks ``discover`` which hosts there are. Who wrote RUN.json has put both into PATH.
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

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.training.metrics import elastic_name, file_of
from workloads.training.plan import Host, Plan, commands, elsewhere, variables

if TYPE_CHECKING:
    from workloads.tracking import Server

POLL_SECONDS = 1.0
SSH_SECONDS = 60
LOG_BYTES = 16 << 20
"""Size above which the log begins again at its beginning; the account keeps the part before in log.1."""
LAST_LINES = 10
FAILED = re.compile(r"Process (\d+) exit with status code ([1-9]\d*)")
REFUSED = re.compile(r"exit with status code 2\b|exitcode *: 2\b")


def ask(plan: Plan, host: Host, verb: str, ends_the_way: bool = False) -> str | None:
    """Return what *verb* prints on *host*; None where it is not reached or fails.

    Args:
        ends_the_way: How it ended will not be told, as there is nobody left to tell it.
    """
    argv = [sys.executable, "-m", "workloads.training.hosts", str(plan.config.parent / "run.json"), verb]
    try:
        done = subprocess.run(
            elsewhere(host, {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}, argv),
            capture_output=True, text=True, timeout=SSH_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        say(f"{host.name}: no answer after {SSH_SECONDS} s")
        return None
    if done.returncode and not ends_the_way:
        say(f"{host.name}: `{verb}` ended with {done.returncode}: {done.stderr.strip() or 'no word why'}")
        return None
    return done.stdout


# --- the chief ------------------------------------------------------------------------------------------------------


def start(plan: Plan) -> int:
    """Have processes on all hosts, and return when they have ended: 0 finished or stopped, 2 refused, else failed."""
    before = state(plan)
    if (before.get("outcome"), before.get("config")) == ("finished", plan.digest):
        say("it is finished already")
        with telling(plan):
            return 0
    shorten(plan)
    attempt = int(before.get("attempt", 0)) + 1
    put_state(plan, attempt=attempt, outcome=None)
    say(f"start {attempt} of {plan.name}: {plan.world} processes by {plan.launcher} on {_names(plan.hosts)}")
    hosts, fingerprints = [plan.hosts[0]], {plan.hosts[0].name: ready(plan)}
    for host in plan.others:
        if (found := ask(plan, host, "ready")) is not None:
            hosts.append(host)
            fingerprints[host.name] = found.strip()
    missing = [host for host in plan.hosts if host not in hosts]
    if missing and len(hosts) * plan.processes < plan.at_least:
        say(f"not reached: {_names(missing)}; it takes {plan.at_least} processes")
        put_state(plan, attempt=attempt, outcome="failed", why=f"not reached: {_names(missing)}")
        return 1
    plan.out.mkdir(parents=True, exist_ok=True)
    told = {**plan.provenance, "hosts": fingerprints, "code": code()}
    (plan.out / "provenance.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    with telling(plan):
        ended = Launched(plan, commands(plan, hosts)).wait()
    put_state(plan, attempt=attempt, outcome=ended.outcome, why=ended.why)
    say(f"{plan.name}: {ended.outcome}{f', {ended.why}' if ended.why else ''}")
    if ended.outcome == "finished":
        for host in plan.others:
            ask(plan, host, "close", ends_the_way=True)
    return ended.status


@contextmanager
def telling(plan: Plan) -> Iterator[None]:
    """Let the run's MLflow server know meanwhile how it gets on, and at the end what is still to be told.

    It is the chief that tells, and none of the processes that train: these have no account there.
    """
    server = _server(plan)
    if server is None or plan.tracking is None:
        yield
        return
    from workloads.training.tracking import telling as following

    elastic = elastic_name({"HOROVOD_HOSTNAME": plan.hosts[0].address})
    journal = file_of(plan.out, "0" if plan.min_processes is None else elastic)
    with following(server, plan.out, journal.name, plan.tracking["register"]):
        yield


def _server(plan: Plan) -> "Server | None":
    """Return the server that is told; asks nothing of it.

    Raises:
        WorkloadError: its certificate or the account are not there.
    """
    if plan.tracking is None:
        return None
    from workloads.tracking import connect
    from workloads.tracking.server import CERTIFICATE, CREDENTIALS

    found = {CREDENTIALS: plan.tracking["credentials"], CERTIFICATE: plan.tracking["certificate"]}
    return connect(plan.tracking["url"], found)


@dataclass(frozen=True)
class AttemptResult:
    outcome: str
    """finished, stopped or failed."""
    status: int
    why: str = ""


class Launched:
    """The launcher's processes. SIGTERM lets the training save: its own process here tells those elsewhere."""

    def __init__(self, plan: Plan, commands: Sequence[Sequence[str]]) -> None:
        self._plan, self._asked, self._first_failed, self._refused = plan, False, "", False
        self._writing = threading.Lock()
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)
        self._processes = [
            subprocess.Popen(
                argv, env={**os.environ, **variables(plan)}, cwd=plan.home, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
            )
            for argv in commands
        ]  # fmt: skip
        self._listeners = [threading.Thread(target=self._listen, args=(process,)) for process in self._processes]
        for listener in self._listeners:
            listener.start()

    def wait(self) -> AttemptResult:
        while any(process.poll() is None for process in self._processes):
            if any(process.poll() for process in self._processes):
                self._end()
            time.sleep(POLL_SECONDS / 4)
        for listener in self._listeners:
            listener.join()
        statuses = [process.returncode for process in self._processes]
        if self._asked:
            return AttemptResult("stopped", 0)
        if not any(statuses):
            return AttemptResult("finished", 0)
        return AttemptResult("failed", 2 if self._refused else 1, self._first_failed or f"ended with {statuses}")

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            with self._writing:
                sys.stdout.write(line)
                sys.stdout.flush()
                shorten(self._plan)
            if (found := FAILED.search(line)) and not self._first_failed:
                self._first_failed = f"rank {found[1]} ended with {found[2]}"
            self._refused = self._refused or REFUSED.search(line) is not None

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            return
        self._asked = True
        say("told to stop: it saves first")
        for pid in trainings():
            os.kill(pid, signal.SIGTERM)
        threading.Timer(self._plan.grace_seconds, self._end).start()

    def _end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()


def await_first_step(plan: Plan, seconds: float) -> int:
    """Return 0 once every rank has logged a step of this start; 4, with the last lines of who failed, if it ends first.

    Also 0 where the run is finished.
    """
    deadline, begun = time.monotonic() + seconds, False
    while time.monotonic() < deadline:
        told = state(plan)
        if told.get("outcome") == "finished":
            return 0
        begun = begun or told.get("outcome") is None
        if begun and told.get("outcome") in ("failed", "stopped"):
            print("\n".join(last_lines(plan.log.read_text(errors="replace"))))
            print(f"{plan.name} {told['outcome']}: {told.get('why') or 'no word why'}")
            return 4
        names = {*logged(plan)}
        for host in plan.others if names else ():
            names |= {*(ask(plan, host, "logged") or "").split()}
        if len(names) >= plan.at_least:
            return 0
        time.sleep(POLL_SECONDS)
    print("\n".join(last_lines(plan.log.read_text(errors="replace"))))
    print(f"{plan.name}: no first step of all {plan.at_least} processes after {seconds:.0f} s")
    return 4


def last_lines(log: str) -> list[str]:
    """Return the last lines that the rank which failed first has said; of all, where none is named."""
    lines = log.splitlines()
    newest = max((number for number, line in enumerate(lines) if line.startswith("start ")), default=0)
    failed = next((found[1] for line in lines[newest:] if (found := FAILED.search(line))), None)
    own = [line for line in lines[newest:] if failed is not None and line.startswith(f"[{failed}]<")]
    return (own or lines[newest:])[-LAST_LINES:]


# --- each host ------------------------------------------------------------------------------------------------------


def check(plan: Plan) -> None:
    """Raise what this host lacks: found before anything is started."""
    for module in ("torch", *(["horovod"] if plan.launcher == "horovod" else [])):
        if find_spec(module) is None:
            fix = f"Put it there on {plan.host}, or take launcher: torchrun" if module == "horovod" else "Put it there"
            got = f"got no {module} in {sys.prefix}"
            raise WorkloadError(f"{plan.host}: environment", got, "a run imports it", fix)
    if plan.data is not None and not Path(plan.data).exists():
        fix = "Put it there, or correct data"
        raise WorkloadError(f"{plan.host}: data", f"got no {plan.data}", "every host of a run reads it", fix)
    if plan.host == plan.hosts[0].name:
        _server(plan)


def ready(plan: Plan) -> str:
    """End what an earlier start left here, mark that a new one begins, and return the fingerprint of this host."""
    for pid in trainings():
        os.kill(pid, signal.SIGKILL)
    (plan.home / "started").touch()
    return fingerprint()


def logged(plan: Plan) -> Iterator[str]:
    """Yield the files in which a rank has logged a step since the start."""
    began = plan.home / "started"
    if not began.exists():
        return
    for path in plan.out.glob("metrics*.jsonl"):
        if path.stat().st_mtime_ns > began.stat().st_mtime_ns and '"step":' in _last(path):
            yield path.name


def _last(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return file.read().decode(errors="replace").strip().rpartition("\n")[2]


def close(plan: Plan) -> None:
    """Keep in mind that the run is finished, and end the sshd that lets the chief in."""
    put_state(plan, outcome="finished")
    os.kill(int((plan.home / "door.pid").read_text()), signal.SIGTERM)


def fingerprint() -> str:
    """Return a digest of what of this host decides a result: machine, kernel, packages, GPU driver."""
    packages = subprocess.run(["dpkg-query", "-W"], capture_output=True, check=False).stdout
    parts = [Path("/etc/machine-id"), Path("/proc/driver/nvidia/version")]
    texts = [path.read_bytes() if path.exists() else b"" for path in parts]
    kernel = " ".join((platform.system(), platform.release(), platform.machine())).encode()
    return hashlib.sha256(b"\0".join([kernel, packages, *texts])).hexdigest()


def code() -> str:
    """Return the digest of the archive that this is imported from; of a directory there is none."""
    archive = Path(__file__).parents[2]
    return hashlib.sha256(archive.read_bytes()).hexdigest() if archive.is_file() else "none"


def trainings() -> Iterator[int]:
    """Yield the processes of trainings that this account runs here, without those that start them."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if directory.stat().st_uid != os.getuid():
                continue
            argv = (directory / "cmdline").read_text().split("\0")
        except OSError:
            continue  # it has ended
        if "-m" in argv and argv[argv.index("-m") + 1] == "workloads.training":
            yield int(directory.name)


def state(plan: Plan) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((plan.home / "state.json").read_text())
    except FileNotFoundError:
        return {}
    return told


def put_state(plan: Plan, **values: Any) -> None:
    beside = plan.home / "state.json.new"
    beside.write_text(json.dumps({"config": plan.digest, **values}))
    beside.replace(plan.home / "state.json")


def say(text: str) -> None:
    print(text, flush=True)


def _names(hosts: Sequence[Host]) -> str:
    return ", ".join(host.name for host in hosts)


def shorten(plan: Plan, descriptor: int = 1) -> None:
    """Copy a log of more than LOG_BYTES to log.1 in the account's directory, and begin it again at its beginning.

    The log's directory is root's, so the log is emptied through *descriptor*, which systemd opened for appending.
    """
    written = os.fstat(descriptor)
    if not stat.S_ISREG(written.st_mode) or written.st_size <= LOG_BYTES:
        return
    # Without room for the copy the log goes on growing: the output of a run must never wait for its log.
    with suppress(OSError), plan.log.open("rb") as log:
        if os.path.samestat(written, os.fstat(log.fileno())):  # not where it was started by hand, into another file
            (plan.home / "log.1").write_bytes(log.read())
            os.ftruncate(descriptor, 0)


def main() -> int:
    parser = new_parser("workloads.training.hosts", __doc__)
    parser.add_argument("plan", type=Path, metavar="RUN.json")
    parser.add_argument("verb", choices=("start", "await", "check", "ready", "logged", "close"))
    parser.add_argument("--seconds", type=float, default=600, help="of await")
    given = parser.parse_args()
    plan = Plan.read(given.plan)
    try:
        match given.verb:
            case "start":
                return start(plan)
            case "await":
                return await_first_step(plan, given.seconds)
            case "check":
                check(plan)
            case "ready":
                print(ready(plan))
            case "logged":
                print("\n".join(logged(plan)))
            case "close":
                close(plan)
    except WorkloadError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
