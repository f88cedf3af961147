"""Plans on simulated hosts: order, the look before a write, and the account of what was done."""

import os
import re
import signal
import threading

import pytest

from rackwright.core.contract import Command, PlayRole, Put, PutOutput, Remove, Step
from rackwright.errors import StepFailed
from rackwright.hosts.pool import ChangeCancelled, Hosts
from rackwright.hosts.session import NotDone
from rackwright.hosts.steps import execute
from rackwright.kinds.shared.guard import guard_change
from tests.hosts.conftest import RAW
from tests.support.simulated import SimulatedRack

DRIVE = {
    "name": "nvme0n1", "serial": "RW-NVME0", "sample": ["data 77aa"],
    "signatures": [{"type": "ext4", "uuid": "3f2a", "label": None}], "witnesses": ["9c1e"],
    "parts": [], "held": [], "writes": "8 sectors written since 5f3c1a2b",
}  # fmt: skip
WIPE = Command(
    "wipe RW-NVME0", ("wipefs", "-a", "${drive:RW-NVME0}"), expects={"RW-NVME0": "ext4 3f2a 9c1e, data 77aa"}
)
PLAN: tuple[Step, ...] = (Put("write hot.conf", "/etc/hot.conf", "ARRAY"), WIPE, Remove("remove old.conf", "/etc/old"))


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def do(hosts: Hosts, rack: SimulatedRack, messages: list[str]):
    """Execute steps on gpu-01 under its lock."""
    rack["gpu-01"].set_facts({**RAW, "drives": [DRIVE]})

    def do(*steps: Step) -> None:
        with hosts.lease("gpu-01", "gpu-01/hot", messages.append):
            execute(hosts, "gpu-01", "gpu-01/hot", steps, messages.append)

    return do


def done(rack: SimulatedRack) -> list[str]:
    return [step["text"] for step in rack["gpu-01"].steps]


def test_each_step_is_reported_just_before_it_is_done(do, rack, messages):
    seen = []
    rack["gpu-01"].on_step = lambda step: seen.append((step["text"], list(messages)))

    do(*PLAN)

    texts = [step.text for step in PLAN]
    assert seen == [(text, texts[: number + 1]) for number, text in enumerate(texts)]
    assert messages == texts


def test_a_step_arrives_as_it_was_planned(do, rack):
    do(*PLAN)

    put, run, remove = rack["gpu-01"].steps
    assert put == {
        "kind": "put", "text": "write hot.conf", "path": "/etc/hot.conf", "content": "ARRAY",
        "mode": 0o644, "owner": "root:root", "base64": False,
    }  # fmt: skip
    assert (run["kind"], run["argv"]) == ("run", ["wipefs", "-a", "${drive:RW-NVME0}"])
    assert (remove["kind"], remove["path"]) == ("remove", "/etc/old")


@pytest.mark.parametrize(
    ("drive", "reason"),
    [
        (
            {**DRIVE, "sample": ["data 9c0ff"]},
            "drive RW-NVME0 holds ext4 3f2a 9c1e, data 9c0ff now, and the plan was made for ext4 3f2a 9c1e, data 77aa",
        ),
        (
            {**DRIVE, "sample": {"unknown": "in use by md127"}},
            "what is on drive RW-NVME0 cannot be known (sample: in use by md127)",
        ),
        ({**DRIVE, "serial": "RW-OTHER"}, "no drive RW-NVME0 here"),
    ],
)
def test_a_drive_that_is_not_as_planned_stops_before_the_first_byte(do, rack, drive, reason):
    """As when it is exchanged between plan and write."""
    rack["gpu-01"].set_facts({**RAW, "drives": [drive]})

    with pytest.raises(StepFailed) as failure:
        do(*PLAN)

    assert str(failure.value) == (
        f"gpu-01/hot: step 2 of 3 (wipe RW-NVME0) failed on gpu-01: {reason}; nothing was written;"
        " done: write hot.conf; not begun: remove old.conf."
        " Correct the cause, and run the same command again, which plans from the actual state."
    )
    assert done(rack) == ["write hot.conf"]


def test_a_blank_drive_is_expected_in_words(do, rack):
    step = Command("make lab:hot", ("mdadm",), expects={"RW-NVME0": ""})

    with pytest.raises(
        StepFailed, match=r"holds ext4 3f2a 9c1e, data 77aa now, and the plan was made for a blank drive"
    ):
        do(step)


def test_a_drive_that_the_plan_has_wiped_may_hold_what_is_between_its_ends(do, rack):
    make = Command("make lab:hot", ("mdadm",), expects={"RW-NVME0": "data 77aa"})
    rack["gpu-01"].set_facts({**RAW, "drives": [{**DRIVE, "signatures": [], "witnesses": []}]})
    do(make)
    rack["gpu-01"].set_facts({**RAW, "drives": [DRIVE]})

    with pytest.raises(StepFailed, match="holds ext4 3f2a 9c1e, data 77aa now, and the plan was made for data 77aa"):
        do(make)
    assert done(rack) == ["make lab:hot"]


def test_a_failed_step_ends_the_plan_and_says_where_it_stands(do, rack):
    def fail(step):
        if step["text"] == "wipe RW-NVME0":
            raise RuntimeError("`wipefs` ended with 1")

    rack["gpu-01"].on_step = fail

    with pytest.raises(StepFailed) as failure:
        do(*PLAN)

    assert str(failure.value) == (
        "gpu-01/hot: step 2 of 3 (wipe RW-NVME0) failed on gpu-01: `wipefs` ended with 1;"
        " done: write hot.conf; not begun: remove old.conf."
        " Correct the cause, and run the same command again, which plans from the actual state."
    )
    assert done(rack) == ["write hot.conf", "wipe RW-NVME0"]


def test_facts_are_read_again_after_a_failed_step_too(hosts, rack):
    def fail(step):
        rack["gpu-01"].set_facts({**RAW, "taken_at": 2.0})
        raise RuntimeError

    rack["gpu-01"].on_step = fail
    with hosts.lease("gpu-01", "gpu-01/hot", print):
        before = hosts.facts("gpu-01")
        with pytest.raises(StepFailed):
            execute(hosts, "gpu-01", "gpu-01/hot", PLAN[:1], print)

        assert (before.taken_at, hosts.facts("gpu-01").taken_at) == (1.0, 2.0)


def test_a_host_that_dies_in_a_step_leaves_it_open_how_that_ended(do, rack):
    rack["gpu-01"].on_step = lambda step: rack.switch_off("gpu-01")

    with pytest.raises(StepFailed) as failure:
        do(*PLAN)

    assert str(failure.value).startswith("gpu-01/hot: step 1 of 3 (write hot.conf) on gpu-01: the connection ended")
    assert "no step was done before it; not begun: wipe RW-NVME0; remove old.conf." in str(failure.value)


def test_a_runner_that_dies_in_a_step_is_no_traceback_and_no_silence(do, rack):
    """As when the host runs out of memory: the connection stands, and nobody can tell how the step ended."""
    rack["gpu-01"].on_step = lambda step: os.kill(step["pid"], signal.SIGKILL)

    with pytest.raises(StepFailed, match=r"step 1 of 3 \(write hot.conf\) on gpu-01: .*not begun: wipe RW-NVME0"):
        do(*PLAN)


def test_a_cancelled_plan_begins_no_further_step(do, hosts, rack):
    rack["gpu-01"].on_step = lambda step: hosts.cancel()

    with pytest.raises(ChangeCancelled) as cancelled:
        do(*PLAN)

    # the cancellation comes while the step ends: it is seen before or after that
    assert re.fullmatch(
        r"gpu-01/hot: cancelled (before step 2 of 3 \(wipe RW-NVME0\); done: write hot.conf; not begun: remove old.conf"
        r"|while step 1 of 3 \(write hot.conf\) continues on gpu-01; no step was done before it;"
        r" not begun: wipe RW-NVME0; remove old.conf)\."
        r" Run the same command again, which plans from the actual state\.",
        str(cancelled.value),
    )
    assert done(rack) == ["write hot.conf"]


def test_a_cancellation_does_not_wait_for_a_long_step(do, hosts, rack):
    """Pulumi kills the provider five seconds after it asked; the step runs on, on the host."""
    end, began = threading.Event(), threading.Event()

    def sync(step):
        began.set()
        end.wait()

    rack["gpu-01"].on_step = sync
    threading.Thread(target=lambda: (began.wait(), hosts.cancel())).start()

    with pytest.raises(ChangeCancelled, match=r"cancelled while step 1 of 3 \(write hot.conf\) continues on gpu-01"):
        do(*PLAN)
    assert not end.is_set()
    end.set()


def test_steps_need_the_lease(hosts):
    with pytest.raises(AssertionError, match="the lease of gpu-01 is not held"):
        execute(hosts, "gpu-01", "gpu-01/hot", PLAN, print)


GUARDED = (
    Put("note it", "/etc/note", "x"),
    *guard_change("door", ["/etc/door"], "", [Put("change the door", "/etc/door", "y")], 60),
    Put("note that it is done", "/etc/note", "z"),
)


@pytest.mark.parametrize(
    ("failing", "account"),
    [
        (
            "change the door",
            "done: note it; within 60 s the host itself undoes the steps after its timer was set;"
            " not begun: log in again; stop the timer: door stays as it is now; note that it is done",
        ),
        (
            "stop the timer: door stays as it is now",
            "done: note it; within 60 s the host itself undoes the steps after its timer was set;"
            " not begun: note that it is done",
        ),
        (
            "note that it is done",
            "done: note it; set a timer that restores door in 60 s; change the door; log in again;"
            " stop the timer: door stays as it is now",
        ),
    ],
)
def test_what_the_host_takes_back_by_itself_is_not_reported_to_stay(do, rack, failing, account):
    """Neither where a step fails, nor where the connection is lost in the middle of one."""

    def fail(step):
        if step["text"] == failing:
            raise RuntimeError("it is cut off")

    rack["gpu-01"].on_step = fail

    with pytest.raises(StepFailed) as failure:
        do(*GUARDED)

    assert account in str(failure.value)


@pytest.mark.parametrize(
    ("reason", "help"),
    [
        ("task 'Install': No package matching 'prometheus-node-exporter' is available", "Give the host a source of"),
        ("task 'Start': Unit nginx.service is masked", "Correct the cause, and run the same command again"),
    ],
)
def test_the_help_for_a_missing_package_is_a_source_of_it(hosts, messages, reason, help):
    def play(step, host, progress):
        raise NotDone(reason)

    with pytest.raises(StepFailed) as caught, hosts.lease("gpu-01", "gpu-01/role", messages.append):
        execute(hosts, "gpu-01", "gpu-01/role", [PlayRole("play role", "node_exporter", {})], messages.append, play)

    assert caught.value.diagnostic.help.startswith(help)


def test_the_output_of_a_command_on_another_host_is_written_here(do, rack, messages):
    """
    Only root of this host can read the file; nothing that is shown has the output.
    """
    do(PutOutput("get a token", "shell", ("echo", "tok.en"), "/run/token"))

    [step] = rack["gpu-01"].steps
    assert (step["kind"], step["path"], step["content"], step["mode"]) == ("put", "/run/token", "tok.en\n", 0o600)
    assert messages == ["get a token"]


def test_an_output_without_a_path_is_not_kept(do, rack):
    """
    The command has run there, and no step runs here.
    """
    do(PutOutput("drain the node", "shell", ("true",), ""))

    assert rack["gpu-01"].steps == []


def test_a_command_that_fails_on_another_host_fails_the_step(do, rack):
    """
    The message has what the command prints as its errors, never its output.
    """
    with pytest.raises(StepFailed) as caught:
        do(
            PutOutput("get a token", "shell", ("sh", "-c", "echo tok.en; echo refused >&2; exit 3"), "/run/token"),
            *PLAN,
        )

    text = str(caught.value)
    assert 'the command on shell ended with status 3, and printed "refused"' in text
    assert "tok.en" not in text
    assert rack["gpu-01"].steps == []
