"""Hold the lease of a host and perform the steps that arrive as lines of JSON on stdin.

Standard library only, for Python 3.8 and later. Answers are lines of JSON on stdout, each with an ``event``. The
process and its lease end with stdin. A running command then continues in its systemd unit.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rackwright.facts.probe import block, observe
from rackwright.facts.probe.observe import attempt
from rackwright.hosts.onhost.messages import PROGRESS_SECONDS, Stop, emit, every, report_duration
from rackwright.hosts.onhost.put_files import put, receive, remove
from rackwright.hosts.onhost.references import array, hold_drives, resolve_references, root

PREFIX = "rackwright-step-"
"""Prefix of the transient units that run steps. The escaped ID of the resource and the step's number follow."""
SILENCE_SECONDS = 120
"""Seconds without a sign of life from the other side after which the lease is released."""
RECORDS = "/run/rackwright/units"
"""Folder with a record of each unit that was started, so that an audit knows the unit by more than its name."""
POLL_SECONDS = 0.5
REST_SECONDS = 5
"""Interval between two checks of an array that is not at rest."""
OUTPUT_LINES, OUTPUT_BYTES = 12, 4096
ON_DRIVES, REFUSED = "rackwright-drives", 97
"""Program name of steps that on_drives performs itself, and its exit status if nothing was written."""
SHELLS = ("sh", "dash", "bash")
TASK = re.compile(r"/usr/bin/python3\b.*&& sleep 0'?$", re.DOTALL)
"""Command with which Ansible starts the Python of a task over SSH."""
OF_STEPS = {"LC_ALL": "C", **observe.OF_KUBECTL}
ENVIRONMENT = {**OF_STEPS, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def main(job: dict[str, Any]) -> None:
    os.umask(0o022)
    if "at_rest" in job:
        run_at_rest(job["at_rest"])
        return
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=listen, args=(requests,), daemon=True).start()
    if not (take_lease(job) and await_steps(job["id"]) and await_tasks(job["patience_seconds"])):
        return
    emit("ready")
    while True:
        answer(requests.get(), job)


def listen(requests: queue.Queue[dict[str, Any]]) -> None:
    """Queue the requests; an empty line is only a sign of life. At the end of stdin, end everything."""
    signal.alarm(SILENCE_SECONDS)
    for line in sys.stdin.buffer:
        signal.alarm(SILENCE_SECONDS)  # its default action ends the process, whatever the main thread is at
        if line.strip():
            requests.put(json.loads(line))
    os._exit(0)


def answer(request: dict[str, Any], job: dict[str, Any]) -> None:
    try:
        perform(request["step"], f"{PREFIX}{escape_unit(job['id'])}-{request['number']}", job)
        emit("done")
    except Stop as stop:
        emit("failed", reason=str(stop), output=stop.output)
    except OSError as error:
        emit("failed", reason=str(error), output=[])


def perform(step: dict[str, Any], unit: str, job: dict[str, Any]) -> None:
    if step["kind"] == "run":
        run(step, unit, job)
    elif step["kind"] == "put":
        put(step)
    elif step["kind"] == "send":
        receive(step)
    elif step["kind"] == "reboot":
        reboot()
    else:
        remove(Path(step["path"]))


# --- the lease of the host --------------------------------------------------------------------------------------------


def take_lease(job: dict[str, Any]) -> bool:
    """Take the host's lease, or report the holder if the wait exceeds the patience of the job.

    The kernel releases it when this process ends, in any way, so the lease cannot outlive its holder.
    """
    lock = os.open(job["lock"], os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    began = time.monotonic()
    say = every(PROGRESS_SECONDS)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, OUTPUT_BYTES, 0).decode(errors="replace").strip() or "an unknown holder"
            if time.monotonic() - began >= job["patience_seconds"]:
                emit("locked", holder=holder)
                return False
            say(f"waiting for the host's lease, held for {holder}")
            time.sleep(POLL_SECONDS)
        else:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{job['holder']}\n".encode(), 0)
            return True


def await_steps(id: str) -> bool:
    """Wait for the end of steps that an earlier run for *id* left behind; report steps of another resource."""
    ours = re.compile(re.escape(PREFIX + escape_unit(id)) + r"-\d+\.service")
    say = every(PROGRESS_SECONDS)
    while True:
        steps = running_steps()
        foreign = [description for unit, description in steps.items() if not ours.fullmatch(unit)]
        if foreign:
            emit("occupied", steps=foreign)
        if foreign or not steps:
            return not foreign
        say(f"waiting for a step of an earlier run: {', '.join(steps.values())}")
        time.sleep(POLL_SECONDS)


def await_tasks(patience_seconds: float) -> bool:
    """Wait for the end of tasks that an ended run of Ansible left behind; report them after *patience_seconds*.

    A task goes on without its connection, and a package manager must not be killed. The caller holds the lease, so
    that none of ours has begun since.
    """
    began = time.monotonic()
    say = every(PROGRESS_SECONDS)
    while has_systemd() and running_tasks():
        if time.monotonic() - began >= patience_seconds:
            emit("locked", holder="a task that an ended run of Ansible has left")
            return False
        say("waiting for a task of Ansible that an ended run has left")
        time.sleep(POLL_SECONDS)
    return True


def running_tasks() -> list[int]:
    """Return the processes of Ansible's tasks on this host: shells that run the task's Python, as Ansible starts it.

    Processes of containers have another namespace of process numbers.
    """
    tasks, namespace = [], Path("/proc/self/ns/pid").stat().st_ino
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            is_shell = len(words) > 2 and Path(words[0]).name in SHELLS and words[1] == "-c"
            if is_shell and TASK.search(words[2]) and (entry / "ns/pid").stat().st_ino == namespace:
                tasks.append(int(entry.name))
    return tasks


def has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()  # sd_booted(3)


def escape_unit(text: str) -> str:
    """Return *text* as systemd-escape(1) does."""
    return re.sub(r"[^A-Za-z0-9:_.]", lambda found: "-" if found[0] == "/" else f"\\x{ord(found[0]):02x}", text)


def running_steps() -> dict[str, str]:
    """Return the units of steps that have not ended, each with its description."""
    if not has_systemd():
        return {}
    listed = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--full", "--no-legend", f"{PREFIX}*"],
        env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    units = [line.split(None, 4) for line in listed.stdout.decode().splitlines()]
    return {name: text for name, _, active, _, text in units if active not in ("inactive", "failed")}


# --- commands -------------------------------------------------------------------------------------------------------


def run(step: dict[str, Any], unit: str, job: dict[str, Any]) -> None:
    if step.get("when_at_rest"):
        defer(step, job)
        return
    argv, refused = process_of(step, job)
    log = Path(job["directory"], "step.log")
    log.parent.mkdir(mode=0o700, exist_ok=True)
    remove(log)
    command = in_unit(argv, unit, f"{job['id']}: {step['text']}", log, step["timeout_seconds"])
    began = time.monotonic()
    if has_systemd():
        record_unit(unit, command)
    with log.open("ab") as output:  # systemd-run and the command itself both append to it
        process = subprocess.Popen(
            command if has_systemd() else argv,
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    status = await_process(process, log, step["timeout_seconds"])
    settle()
    if refused and status == refused:
        raise Stop(last_lines(log)[-1])
    if status:
        seconds = time.monotonic() - began
        end = f"was stopped after {seconds:.0f} s" if seconds >= step["timeout_seconds"] else f"ended with {status}"
        raise Stop(f"`{step['argv'][0]}` {end}", last_lines(log))


def process_of(step: dict[str, Any], job: dict[str, Any]) -> tuple[list[str], int]:
    """Return the command of a step, and its exit status if nothing was written; 0 for no such status.

    A step that writes to drives is a job for a separate process, which checks them while it holds them.
    """
    argv, expects = step["argv"], step.get("expects")
    if argv[0] != ON_DRIVES and not expects:
        return [resolve_references(argument) for argument in argv], 0
    theirs = {f"${{drive:{serial}}}" for serial in expects or ()}
    wanted = (
        argv[1:] if argv[0] == ON_DRIVES else [each if each in theirs else resolve_references(each) for each in argv]
    )
    drives = job["drives"]
    path = Path(drives["path"])
    text = {"modules": drives["modules"], "argv": wanted, "expects": expects or {}, "root": root()}
    path.parent.mkdir(mode=0o700, exist_ok=True)
    remove(path)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(text, file)
    return drives["command"], REFUSED


def in_unit(argv: list[str], unit: str, description: str, log: Path, timeout_seconds: float) -> list[str]:
    """Return the command that runs *argv* as a separate unit, which survives a dropped connection."""
    return [
        "systemd-run", "--quiet", "--collect", "--wait", "--service-type=exec",
        f"--unit={unit}", f"--description={description}", *(f"--setenv={name}={OF_STEPS[name]}" for name in OF_STEPS),
        f"--property=StandardOutput=append:{log}", f"--property=StandardError=append:{log}",
        f"--property=RuntimeMaxSec={timeout_seconds:.0f}",
        "--", *map(literal, argv),
    ]  # fmt: skip


def record_unit(unit: str, command: list[str]) -> None:
    """Record what *command*, of systemd-run, starts in *unit*. Without the record an audit reports the unit."""
    path = Path(f"{root()}{RECORDS}/{unit}.json")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(json.dumps({"argv": command[command.index("--") + 1 :]}))


def literal(argument: str) -> str:
    """Return what systemd-run takes for *argument*, in which systemd would expand variables."""
    return argument.replace("$", "$$")


def await_process(process: subprocess.Popen[bytes], log: Path, timeout_seconds: float) -> int:
    """Wait for *process*, report its duration and last output line regularly, and return its status."""
    began = time.monotonic()
    while True:
        seconds = time.monotonic() - began
        try:
            return process.wait(min(PROGRESS_SECONDS, max(timeout_seconds - seconds, 1)))
        except subprocess.TimeoutExpired:
            seconds = time.monotonic() - began
            emit("progress", text=" ".join([f"running for {seconds:.0f} s", *last_lines(log)[-1:]]))
            if seconds >= timeout_seconds and not has_systemd():
                os.killpg(process.pid, signal.SIGKILL)


def last_lines(log: Path) -> list[str]:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - OUTPUT_BYTES, 0))
        lines = re.split(r"[\r\n\b]+", file.read().decode(errors="replace"))
    return [line.strip() for line in lines if line.strip()][-OUTPUT_LINES:]


def settle() -> None:
    """Wait until udev has seen what the command made or removed: the next step looks for it."""
    if has_systemd() and shutil.which("udevadm", path=ENVIRONMENT["PATH"]):
        with report_duration("waiting for udev"):
            subprocess.run(["udevadm", "settle"], env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=False)


def reboot() -> None:
    """Begin a restart, and return while there is time to answer. Inhibitors such as an update prevent it."""
    if not has_systemd():
        raise Stop("there is no systemd to restart it")
    ordered = subprocess.run(
        ["systemctl", "--no-block", "--check-inhibitors=yes", "reboot"],
        env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if ordered.returncode:
        output = ordered.stdout.decode(errors="replace").splitlines()[-OUTPUT_LINES:]
        raise Stop(f"`systemctl reboot` ended with {ordered.returncode}", output)


# --- commands that wait until md rests -------------------------------------------------------------------------------


def defer(step: dict[str, Any], job: dict[str, Any]) -> None:
    """Start the unit that runs the command of *step* once md rests. A unit of that name that waits already is enough.

    The unit gets the references, not what they name now: while it waits, which may take a day, another drive may get
    the kernel name that one of its drives has now.
    """
    if not has_systemd():
        raise Stop("there is no systemd to start a unit that waits for md")
    array_key, unit = step["when_at_rest"]["array"], step["when_at_rest"]["unit"]
    waits = subprocess.run(["systemctl", "is-active", "--quiet", unit], env=ENVIRONMENT, check=False)
    if waits.returncode == 0:
        return
    described = {"array": array_key, "argv": step["argv"]}
    path = Path(job["directory"], f"{unit}.json")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    remove(path)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"modules": job["modules"], "at_rest": described}, file)
        file.write("\n")
    command = [
        "systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--description={job['id']}: {step['text']}",
        f"--property=StandardInput=file:{path}", "--",
        *map(literal, ("python3", "-I", "-S", "-X", "utf8", "-c", job["loader"])),
    ]  # fmt: skip
    record_unit(unit, command)
    started = subprocess.run(
        command,
        env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if started.returncode:
        lines = started.stdout.decode(errors="replace").splitlines()[-OUTPUT_LINES:]
        raise Stop(f"`systemd-run` ended with {started.returncode}", lines)


def run_at_rest(job: dict[str, Any]) -> None:
    """Wait until the array of *job* rests, then resolve the references of its command and run that."""
    try:
        await_rest(job["array"])
        with hold_drives(job["argv"]) as argv:
            status = subprocess.run(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=False).returncode
    except Stop as stop:
        sys.exit(str(stop))
    sys.exit(status)


def await_rest(key: str) -> None:
    """Return when md does nothing of its own to the array *key*, whatever the kernel calls that array by then."""
    while True:
        machine = block.BlockDevices(root())
        folder = Path(machine.sys(array(machine, key)["name"]), "md")
        if is_at_rest(folder):
            return
        while folder.is_dir() and not is_at_rest(folder):
            time.sleep(REST_SECONDS)


def is_at_rest(folder: Path) -> bool:
    found = [attempt(observe.read, str(folder / file)) for file in ("sync_action", "reshape_position")]
    return found == ["idle", "none"]
