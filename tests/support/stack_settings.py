"""Settings files of stacks."""

from pathlib import Path


def configure(project: Path, stack: str, fleet: str, target: str, containers: str | None = None) -> None:
    text = f"config:\n  rackwright:fleet: {fleet}\n  rackwright:target: {target}\n"
    text += f"  rackwright:containers: {containers}\n" if containers else ""
    (project / "stacks" / f"Pulumi.{stack}.yaml").write_text(text)
