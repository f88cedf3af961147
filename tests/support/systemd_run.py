"""A stand-in for systemd-run that treats the command as systemd does: it expands variables in the arguments."""

import sys
from pathlib import Path

TEXT = f"""#!{sys.executable}
import re, subprocess, sys

def expanded(word):
    if re.fullmatch(r"[$][A-Za-z_]\\w*", word):
        return []  # the unit has no such variable, and a variable without a value is no argument
    return [re.sub(r"[$][$]|[$]{{[A-Za-z_]\\w*[^}}]*}}", lambda found: "$" if found[0] == "$$" else "", word)]

end = sys.argv.index("--")
options, command = sys.argv[1:end], sys.argv[end + 1 :]
command = [part for word in command for part in expanded(word)]
files = [option.partition("file:")[2] for option in options if option.startswith("--property=StandardInput=file:")]
sys.exit(subprocess.run(command, stdin=open(files[0]) if files else subprocess.DEVNULL).returncode)
"""
"""Source of the rules: systemd.service(5), COMMAND LINES."""


def install(directory: Path) -> None:
    """Write the stand-in to *directory*, beside a systemctl for which no unit is active."""
    for name, text in {"systemd-run": TEXT, "systemctl": "#!/bin/sh\nexit 3\n"}.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
