"""The table of uses of other readers than the bounded one, `tests/foreign_data.txt`."""

from tests.support.sources import ROOT

TABLE = ROOT / "tests/foreign_data.txt"


def exceptions() -> dict[str, tuple[int, str]]:
    """Return the number of remaining uses of each file, with their reason."""
    lines = (line for line in TABLE.read_text().splitlines() if line and not line.startswith("#"))
    rows = (line.split(maxsplit=2) for line in lines)
    return {path: (int(number), reason) for path, number, reason in rows}
