"""Pulumi as a program: started with records of what it does, shown while it runs, and ended in stages."""

import math
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from rackwright import process_tree, terminal
from rackwright.cli import plan, project, pulumi_display, pulumi_output, pulumi_summary
from rackwright.cli.ending import StopSignal
from rackwright.cli.pulumi_records import INTERRUPTED, PulumiRun, Records
from rackwright.process_tree import Stage
from rackwright.provider import outcomes

PROGRESS_SECONDS = 0.5
SUMMARY_SECONDS = 1.0
"""Seconds after a stop until the summary is printed, although pulumi has not ended."""
PREVIEW_ENDING = (Stage("program", signal.SIGINT, 1.0), Stage("tree", signal.SIGKILL, 5.0))
"""Ending of a preview, which holds no lock and changes nothing."""


def run_pulumi(
    argv: Sequence[str],
    stack: str,
    directory: Path,
    environment: Mapping[str, str],
    stdout: IO[str] | None,
    expected: Collection[str],
) -> PulumiRun:
    """Run pulumi with *argv* on *stack*, and return its result. The work on each host is shown, and each failure.

    Args:
        directory: A directory for the command's records, which this function makes.
        stdout: The stream for pulumi's output; None for rackwright's own stdout.
        expected: The names of the resources to change.
    """
    records, argv = Records(directory, stack, expected), [*argv, "--suppress-outputs"]
    is_shown = stdout is None and terminal.is_live()
    ended = _run_shown(argv, records, environment) if is_shown else _run_piped(argv, records, environment, stdout)
    if not ended.status and stdout is None:  # outputs of resources that have failed would mislead
        terminal.show(plan.format_outputs(records.events), end="", flush=True)
    return ended


def _run_piped(
    argv: Sequence[str], records: Records, environment: Mapping[str, str], stdout: IO[str] | None
) -> PulumiRun:
    """Run pulumi, whose own output has a line for each change and each step."""
    whole = records.environment(environment)
    process = process_tree.start(
        records.argv(argv), process_tree.GENTLE, cwd=project.directory(), env=whole, stdout=subprocess.PIPE
    )
    heading = f"{argv[0]} {records.stack}"
    assert process.stdout is not None  # it is a pipe
    with pulumi_output.passed_on(process.stdout, stdout), records.watch(heading, not terminal.is_live()) as look:
        status, stopped = _await_end(process, look, records)
        look()
    return records.result(argv, status, stopped)


def _run_shown(argv: Sequence[str], records: Records, environment: Mapping[str, str]) -> PulumiRun:
    """Run pulumi; a terminal shows finished resources, and below them the work on each host."""
    argv = [*argv, "--color", "never"]
    with records.output.open("w") as output:
        process = process_tree.start(
            records.argv(argv),
            process_tree.GENTLE,
            cwd=project.directory(),
            env=records.environment(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        with records.watch(f"{argv[0]} {records.stack}", True, with_results=True) as look:
            status, stopped = _await_end(process, look, records)
            look()
    ended = records.result(argv, status, stopped)
    for line in plan.format_messages(ended.events):
        terminal.show(line)
    if status and not ended.events.messages:
        project.notify(ended.output.strip())
    return ended


def preview_resources(
    stack: str, directory: Path, environment: Mapping[str, str], total: int, targets: Sequence[str] = ()
) -> PulumiRun:
    """Run `pulumi preview`, while a terminal shows the work on each host, and return its result with its output.

    Args:
        directory: A directory for the command's records, which this function makes.
        targets: Pulumi's options that leave out resources.
        total: The number of declared resources.
    """
    records, argv = Records(directory, stack), ["preview", "--color", "never", *targets]
    whole = records.environment(environment)
    records.events.touch()
    compared: set[str] = set()

    def heading(seconds: float) -> str:
        return f"comparing {stack} with its hosts: {len(compared)} of {total} resources, {seconds:.0f} s"

    with records.output.open("w") as output, records.events.open() as events:
        process = process_tree.start(
            records.argv(argv),
            PREVIEW_ENDING,
            cwd=project.directory(),
            env=whole,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        with pulumi_display.show(records.outcomes, heading) as refresh:
            while (status := _wait(process)) is None:
                compared |= plan.compared_resources(events)
                refresh()
    return records.result(argv, status)


def _wait(process: "subprocess.Popen[bytes]") -> int | None:
    """Return the exit status of *process*, a preview; None if it goes on after a while."""
    try:
        return process.wait(PROGRESS_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    except (KeyboardInterrupt, StopSignal):
        process_tree.stop(process)
        raise


def _await_end(
    process: "subprocess.Popen[bytes]", look: Callable[[], None], records: Records
) -> tuple[int, StopSignal | None]:
    """Return the exit status of *process*, and the signal that stopped this command; wait for its end whatever comes.

    The first Ctrl-C or other signal lets pulumi cancel its calls, the second ends it at once, the third kills its tree:
    `process_tree.GENTLE`. `subprocess.run` would kill it after a quarter of a second, and its lock would stay.

    Args:
        look: A function to call twice a second until the end.
        records: Those of the command, of which a summary is printed if pulumi does not end at once.
    """
    interrupted, stopped, summary_at = False, None, math.inf
    while True:
        try:
            status = process.wait(PROGRESS_SECONDS)
            break
        except subprocess.TimeoutExpired:
            look()
            if time.monotonic() > summary_at:
                summary_at = math.inf
                project.notify("pulumi has not ended yet; until now:")
                for line in (*pulumi_summary.outcome_lines(outcomes.read(records.outcomes)), *records.details(True)):
                    project.notify(line)
        except KeyboardInterrupt:
            interrupted = True
            process.terminate()
            summary_at = min(summary_at, time.monotonic() + SUMMARY_SECONDS)
        except StopSignal as reason:
            stopped = reason
            process.terminate()
            summary_at = min(summary_at, time.monotonic() + SUMMARY_SECONDS)
    return (INTERRUPTED[0] if interrupted or stopped else status), stopped
