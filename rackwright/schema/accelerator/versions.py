"""Comparison of versions of drivers and runtimes as numbers."""

VERSION = r"[0-9]{1,9}(\.[0-9]{1,9})*"
LATEST = 10**9
"""Release number that a branch without one is compared with: the newest."""


def parts(version: str) -> tuple[int, ...]:
    """Return the numbers of *version*."""
    return tuple(int(part) for part in version.split("."))


def branch(driver: str) -> int:
    """Return 535 of ``535.261.03``."""
    return parts(driver)[0]


def at_least(driver: str, least: str) -> bool:
    """Return whether *driver*, a version or a branch, is *least* or later."""
    numbers = parts(driver)
    return (numbers if len(numbers) > 1 else (*numbers, LATEST)) >= parts(least)


def minor(version: str) -> str:
    """Return 11.8 of ``11.8.89``."""
    return ".".join(version.split(".")[:2])
