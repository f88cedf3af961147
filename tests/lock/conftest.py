"""The mirror of a few small packages."""

from tests.support.package_mirror import mirror

__all__ = ["mirror"]
