"""The command that restores an archive as a test."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import scratch as temporary
from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, StackName
from rackwright.cli.tier import open_bucket
from rackwright.errors import EndpointUnreachable, SetupError, StepFailed

if TYPE_CHECKING:
    from rackwright.cli.json_tier_types import RestoreTests
    from rackwright.tiering.bucket import Bucket
    from rackwright.tiering.canary import Canary, NoOutputs
    from rackwright.tiering.restore_test import TestResult

app = typer.Typer()


@app.command("test")
def test_restore(
    stack: StackName,
    buckets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BUCKET]...", help="Buckets; by default, all with `restore_test_days`."),
    ] = None,
    archive_name: Annotated[
        str | None, typer.Option("--archive", help="Name of the archive; by default, a random one of each bucket.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory with room for the largest archive.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Restore an archive of each bucket into a temporary directory, and load its files.

    A published model computes its outputs for fixed inputs. The first test records them in the bucket beside the
    manifest, and each later one compares. A recorded canary that is missing fails the test. The bucket keeps the
    result. `audit` reports a failed test, and one that is older than `restore_test_days`.

    Exit status: 0 restored and loaded, 1 damaged or with other outputs, 2 refused, 3 the store was not reached,
    4 failed.
    """
    from rackwright.cli import recording
    from rackwright.tiering import restore_test

    loaded = project.stack(stack)
    chosen = buckets or [name for name, each in loaded.fleet.buckets.items() if each.restore_test_days is not None]
    opened = [open_bucket(loaded, name) for name in chosen]
    results: dict[str, TestResult] = {}
    failed: list[EndpointUnreachable | StepFailed] = []
    changes = [recording.change(bucket.where(""), "note the result of a restore test") for bucket in opened]
    with recording.record("tier test", stack, planned=changes):
        for bucket in opened:
            try:
                name = archive_name or _random_archive(bucket)
                if name is None:
                    project.notify(f"{bucket.where('')} has no archive, so nothing was tested")
                    continue
                with temporary.directory(scratch) as directory:
                    result = restore_test.run(bucket, name, directory, time.time, project.notify, _infer)
            except (EndpointUnreachable, StepFailed) as error:  # the other buckets are tested
                failed.append(error)
                continue
            results[bucket.where(name)] = result
            if not as_json:
                terminal.show(f"{bucket.where(name)}: {_outcome(result)}")
    if as_json:
        tests: RestoreTests = {
            "tests": [
                {
                    "archive": where,
                    "passed": each.passed,
                    "problem": each.problem,
                    "files": each.files,
                    "bytes": each.bytes,
                    "canary": each.canary,
                }
                for where, each in results.items()
            ]
        }
        terminal.show_json(tests)
    if failed:
        raise type(failed[0])(*(diagnostic for error in failed for diagnostic in error.diagnostics))
    raise typer.Exit(0 if all(each.passed for each in results.values()) else 1)


def _outcome(result: "TestResult") -> str:
    if not result.passed:
        return result.problem
    outputs = {"": "", "same": ", outputs as recorded", "recorded": ", outputs recorded for the next test"}
    return f"{result.files} files restored and loaded{outputs.get(result.canary, ', outputs not compared')}"


def _infer(directory: Path) -> "Canary | NoOutputs":
    """Return the outputs of the published model in *directory*, or the reason for none."""
    from rackwright.foreign import parse_json
    from rackwright.iteration import process
    from rackwright.tiering.canary import Canary, NoOutputs
    from rackwright.toolchain import workloads

    try:
        python = workloads.serving(project.notify).python
    except SetupError as error:
        return NoOutputs(str(error), is_loadable=True)
    lines: list[str] = []
    status, last = process.run(python, ("workloads.serving.model_outputs", str(directory)), lines.append)
    try:
        return Canary.model_validate(parse_json(last, lenient=True))
    except ValueError:
        return NoOutputs("; ".join(lines[:2]) or f"the program ended with {status}")


def _random_archive(bucket: "Bucket") -> str | None:
    import secrets

    from rackwright.tiering import archive

    names = archive.list_archives(bucket)
    return secrets.choice(names) if names else None
