"""The file of a second factor: what the PAM module notes is silent, and what lets another person in is not."""

from pathlib import Path

from rackwright.access.totp import EMERGENCY_CODES, OPTIONS, Secret
from rackwright.facts.probe.factors import factors

SALT = b"salt"
WRITTEN = Secret.new()
LINES = WRITTEN.text.splitlines()
SILENT = {
    "as it was written": lambda lines: lines,
    "a noted login": lambda lines: [*lines[:1], '" RATE_LIMIT 3 30 1795648499 1795648500', *lines[2:]],
    "used codes": lambda lines: [*lines[:3], '" DISALLOW_REUSE 59321 59322', *lines[4:]],
    "a used emergency code": lambda lines: lines[:-1],
    "no emergency code": lambda lines: lines[:-EMERGENCY_CODES],
    "a clock that is off": lambda lines: [*lines, '" RESETTING_TIME_SKEW 59321+1 59322+1'],
    "a noted skew": lambda lines: [*lines, '" TIME_SKEW 2'],
    "the last login": lambda lines: [*lines, '" LAST0 192.0.2.1 1795648499'],
    "another order": lambda lines: [lines[0], *lines[4:0:-1], *lines[5:]],
    "an empty line": lambda lines: [*lines, ""],
}
WEAKER = {
    "one more code": lambda lines: [*lines, "12345678"],
    "ten codes": lambda lines: [*lines, *(str(11111111 * digit) for digit in range(1, 6))],
    "no limit of tries": lambda lines: [line for line in lines if "RATE_LIMIT" not in line],
    "a higher limit": lambda lines: [*lines[:1], '" RATE_LIMIT 10 30', *lines[2:]],
    "reuse of codes": lambda lines: [line for line in lines if "DISALLOW_REUSE" not in line],
    "a wide window": lambda lines: [line.replace("WINDOW_SIZE 3", "WINDOW_SIZE 17") for line in lines],
    "codes by number": lambda lines: [line.replace("TOTP_AUTH", "HOTP_COUNTER 1") for line in lines],
    "long steps": lambda lines: [*lines, '" STEP_SIZE 60'],
    "a second key": lambda lines: [lines[0], Secret.new().key, *lines[1:]],
    "any other line": lambda lines: [*lines, "# kept for later"],
}


def read(tmp_path: Path, lines: list[str]) -> dict[str, object]:
    folder = tmp_path / "var/lib/totp"
    folder.mkdir(parents=True)
    (folder / "olga").write_text("\n".join([*lines, ""]))
    found: dict[str, object] = factors(str(tmp_path), SALT)["olga"]
    return found


def is_declared(found: dict[str, object]) -> bool:
    assert isinstance(found["codes"], int)
    return found["options"] == sorted(OPTIONS) and found["codes"] <= EMERGENCY_CODES and found["other_lines"] == 0
