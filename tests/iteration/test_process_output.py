"""The reason of a failed process, from the output of real ones: alone, by Horovod and by torchrun."""

import signal

import pytest

from rackwright.iteration.process_output import parse_failure

ERROR = """\
step 1/200 epoch 0 loss 2.3145 accuracy 0.104 rate 1e+06 227 examples/s
error: step 10: the loss and the gradients are not finite
  expected: finite numbers
  note:     the run has no checkpoint yet
  help:     Lower the learning rate, or set clip_norm, and start the run again"""
HOROVOD = """\
[0]<stdout>:step 1/200 epoch 0 loss 2.3145 accuracy 0.104 rate 1e+06 227 examples/s
[0]<stderr>:error: step 10: the loss and the gradients are not finite
[1]<stderr>:warning: another line
[0]<stderr>:  expected: finite numbers
[0]<stderr>:  help:     Lower the learning rate
Process 0 exit with status code 4.
Traceback (most recent call last):
  File "bin/horovodrun", line 8, in <module>
    raise RuntimeError('Horovod detected that one or more processes exited with non-zero '
RuntimeError: Horovod detected that one or more processes exited with non-zero status, thus causing the job to be \
terminated. The first process to do so was:
Process name: 0
Exit code: {}
"""
TORCHRUN = """\
Traceback (most recent call last):
  File "torch/distributed/launcher/api.py", line 383, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: 
============================================================
Failures:
[1]:
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 2675)  (SIGTERM)
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 1 (local_rank: 1)
  exitcode  : {} (pid: 2676)
============================================================"""  # noqa: W291
RANK = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "loop.py", line 3, in train
[rank1]:     raise ValueError
[rank1]: ValueError: 7 is odd
[rank1]:   and more of it
"""


def test_the_parts_of_an_error_are_its_own() -> None:
    failure = parse_failure(ERROR.splitlines(), 4)
    assert (failure.status, failure.crashed) == (4, False)
    assert failure.problem == "step 10: the loss and the gradients are not finite"
    assert (failure.expected, failure.note) == ("finite numbers", "the run has no checkpoint yet")
    assert failure.help == "Lower the learning rate, or set clip_norm, and start the run again"


def test_the_last_error_counts_and_ends_with_its_parts() -> None:
    lines = ["error: an earlier one", "  help:     Earlier", "error[data-unreadable]: data: rows are wrong", "text"]
    failure = parse_failure(lines, 2)
    assert (failure.problem, failure.help) == ("data: rows are wrong", "")


@pytest.mark.parametrize("launcher", [HOROVOD, f"{ERROR}\n{ERROR}\n{TORCHRUN}"])
def test_several_processes_have_the_error_and_the_status_of_the_first_to_fail(launcher: str) -> None:
    failure = parse_failure(launcher.format(4).splitlines(), 1)
    assert (failure.status, failure.crashed) == (4, False)
    assert failure.problem == "step 10: the loss and the gradients are not finite"
    assert failure.help.startswith("Lower the learning rate")
    assert parse_failure(launcher.format(2).splitlines(), 1).status == 2


@pytest.mark.parametrize("text", [HOROVOD.format(137), TORCHRUN.format(-9)])
def test_a_process_of_several_that_was_killed_is_no_verdict(text: str) -> None:
    """Errors of the others follow from it."""
    failure = parse_failure(text.splitlines(), 1)
    assert failure.crashed and failure.problem == "SIGKILL ended it, as the kernel does if the memory is full"


@pytest.mark.parametrize(("status", "name"), [(-9, "SIGKILL"), (-11, "SIGSEGV"), (143, "SIGTERM"), (-15, "SIGTERM")])
def test_a_signal_has_its_name(status: int, name: str) -> None:
    failure = parse_failure(["step 3"], status)
    assert failure.crashed and failure.status == status and failure.problem.startswith(f"{name} ended it")
    assert signal.Signals[name]


def test_an_exception_is_a_crash_and_its_line_the_reason() -> None:
    lines = [*RANK.splitlines(), *TORCHRUN.format(1).splitlines()]
    failure = parse_failure(lines, 1)
    assert (failure.status, failure.problem, failure.crashed) == (1, "ValueError: 7 is odd", True)
    lines = ["Traceback (most recent call last):", '  File "x", line 1', "torch.OutOfMemoryError: 9 GiB", "", "after"]
    assert parse_failure(lines, 1).problem == "torch.OutOfMemoryError: 9 GiB"


def test_without_a_reason_the_last_line_is_shown() -> None:
    assert parse_failure(["a", "the end\x1b[2J", " "], 2).problem == "'the end\\x1b[2J'"
    assert parse_failure([""], 255).problem == "it printed nothing"
    failure = parse_failure(["not published: accuracy"], 1)
    assert (failure.status, failure.crashed) == (1, False)
