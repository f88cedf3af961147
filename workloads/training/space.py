"""The room for checkpoints: checked before the first step, and the end of a run whose last one could not be written."""

import shutil
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.training.config import Saving
from workloads.training.memory import format_bytes


class CheckpointNotSaved(UserError):
    """The last checkpoint of a run is not on the drive."""

    exit_status = 4


def check_space(directory: Path, checkpoint: int, saving: Saving, steps: int) -> None:
    """Raise unless *directory* has room for the checkpoints of a run.

    While one is written, `keep_last` others are there. Those that are there already count as room, because newer ones
    take their place. Checkpoints that `keep_every` keeps come later, and each save looks for room again.

    Args:
        checkpoint: Bytes of one checkpoint.
        steps: Steps that the run has still to take.

    Raises:
        UserError: The message has both sizes.
    """
    count = min(saving.keep_last + 1, -(-steps // saving.every_steps))
    here = directory if directory.is_dir() else directory.parent
    present = sum(file.stat().st_size for file in directory.glob("step-*/*") if file.is_file())
    free = shutil.disk_usage(here).free
    if count * checkpoint <= free + present:
        return
    problem = (
        f"{format_bytes(free)} are free on the drive, and {count} checkpoints need {format_bytes(count * checkpoint)}"
    )
    expected = f"{format_bytes(checkpoint)} for each of keep_last + 1 checkpoints"
    help = "Free space, use a larger drive, or lower saving.keep_last"
    raise UserError(Diagnostic(str(directory), problem, expected, help, "no step was taken"))


def not_saved(directory: Path, step: int, reason: str, last: int | None) -> CheckpointNotSaved:
    """Return the error of a run whose checkpoint of *step* is not on the drive.

    Args:
        last: Step of the newest checkpoint on the drive; None if there is none.
    """
    help = "Free space on the drive, or repair it, and start the run again with the same --out"
    note = f"the run then resumes after step {last}" if last else "the run then begins again: it has no checkpoint"
    problem = f"the checkpoint of step {step} is not saved: {reason}"
    return CheckpointNotSaved(Diagnostic(str(directory), problem, "the last checkpoint on the drive", help, note))
