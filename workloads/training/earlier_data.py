"""Data that a run has learned from before it was started again with other data."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

UNKNOWN = "unknown"
"""Digest in place of one that a checkpoint of an older version does not have."""


class EarlierData(NamedTuple):
    """Data of the earlier starts of a run."""

    config: Mapping[str, Any]
    sha256: str | None
    """Digest of its examples; None if they are private, `UNKNOWN` if the checkpoint has none."""
    until_step: int
    """Last step that learned from it."""

    def __str__(self) -> str:
        path = self.config.get("path", self.config["kind"])
        return f"until step {self.until_step} it was {path}" + (f", {self.sha256[:12]}" if self.sha256 else "")


def find_earlier(
    saved: Mapping[str, Any], step: int, config: Mapping[str, Any], sha256: str | None
) -> tuple[EarlierData, ...]:
    """Return the earlier data of a run that goes on from the checkpoint of *step*.

    Files that moved are the same data.

    Args:
        saved: State in the checkpoint.
        config: Configuration of the run's own data.
        sha256: Digest of its examples; None if they are private.
    """
    earlier = tuple(EarlierData(**each) for each in saved.get("earlier_data", ()))
    before, digest = saved["config"]["data"], saved.get("data_sha256", UNKNOWN)
    is_same = before == config if None in (digest, sha256) or digest == UNKNOWN else digest == sha256
    return earlier if is_same else (*earlier, EarlierData(before, digest, step))


def all_configs(learned: Iterable[Mapping[str, Any]], earlier: Iterable[EarlierData]) -> list[Mapping[str, Any]]:
    """Return the configurations of all data that a run has learned from, each once."""
    configs = [*learned]
    for each in earlier:
        if each.config not in configs:
            configs.append(each.config)
    return configs
