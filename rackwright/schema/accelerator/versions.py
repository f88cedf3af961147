"""Versions of drivers and runtimes, compared as numbers."""

VERSION = r"[0-9]{1,9}(\.[0-9]{1,9})*"
LATEST = 10**9
"""What a branch by itself stands for: the newest of its releases."""


def parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def branch(driver: str) -> int:
    """Return 535 of ``535.261.03``."""
    return parts(driver)[0]


def at_least(driver: str, least: str) -> bool:
    """Return whether *driver*, a version or a branch, reaches *least*."""
    reached = parts(driver)
    return (reached if len(reached) > 1 else (*reached, LATEST)) >= parts(least)


def minor(version: str) -> str:
    """Return 11.8 of ``11.8.89``."""
    return ".".join(version.split(".")[:2])
