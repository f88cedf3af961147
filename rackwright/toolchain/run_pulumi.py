"""Runs the real pulumi, and gives it the published passphrase of the lab only where the named stack is a twin's.

`rackwright env` puts the script that starts this file first in PATH. All other stacks need a passphrase or a secrets
provider of their own: pulumi asks for it, or fails. This file runs by itself, without the package, to start fast.
"""

import os
import re
import subprocess
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path

LAB_PASSPHRASE = "rackwright-lab"  # noqa: S105 - it is published
"""The same as rackwright.schema.secret has; a test compares the two."""
ROOT = "RACKWRIGHT_ROOT"
TEXT, FILE = "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"
REENCRYPTS = "change-secrets-provider"
"""The one command that needs the lab's passphrase for another stack: to read what it encrypts again."""
ELSEWHERE = ("-C", "--cwd", "--config-file")
"""Options after which the settings that pulumi reads are not those that are looked at here."""


def main() -> None:
    """Replace this process by pulumi."""
    own = Path(__file__).parent / "bin"
    path = [directory for directory in os.get_exec_path() if Path(directory).resolve() != own.resolve()]
    program = next((found for each in path if os.access(found := Path(each, "pulumi"), os.X_OK)), None)
    if program is None:
        sys.exit("pulumi: PATH has none beside rackwright's; run `rackwright toolchain`")
    arguments = sys.argv[1:]
    if root := os.environ.get(ROOT):
        choose_passphrase(arguments, os.environ, Path(root), program)
    os.execv(program, [str(program), *arguments])  # noqa: S606 - it takes the place of this process


def choose_passphrase(
    arguments: Sequence[str], environment: MutableMapping[str, str], root: Path, pulumi: Path
) -> None:
    """Set the lab's passphrase for the stack of a twin, and take it away from every other stack."""
    stack = named_stack(arguments)
    if stack is None and not touches_others(arguments):
        stack = environment.get("PULUMI_STACK") or _selected(pulumi)
    if stack is not None and is_rehearsal(stack, arguments, root):
        if TEXT not in environment and FILE not in environment:
            environment[FILE] = str(root / ".rackwright" / "passphrase")
    elif REENCRYPTS not in arguments and is_published(environment):
        environment.pop(TEXT, None)
        environment.pop(FILE, None)


def named_stack(arguments: Sequence[str]) -> str | None:
    """Return the stack that the command line names."""
    named = None
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--stack", "-s"):
            named = next(rest, None)
        elif found := re.fullmatch(r"(?:--stack=|-s=?)(.+)", argument):
            named = found[1]
    words = _words(arguments)
    if named is None and len(words) == 3 and words[0] == "stack" and words[1] in ("init", "select", "rm"):
        return words[2]
    return named


def touches_others(arguments: Sequence[str]) -> bool:
    """Return whether the command may make or fill another stack than the selected one, or needs none."""
    words = _words(arguments)
    first = words[0] if words else ""
    return first in ("", "new", "version", "login", "logout", "plugin", "help") or words[:2] in (
        ["stack", "init"],
        ["stack", "select"],
        ["config", "cp"],
    )


def _words(arguments: Sequence[str]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith("-")]


def is_rehearsal(stack: str, arguments: Sequence[str], root: Path) -> bool:
    """Return whether the settings of *stack* name a twin as its target; False wherever that cannot be known."""
    if any(argument.startswith(ELSEWHERE) for argument in arguments) or not re.fullmatch(r"[\w.-]+", stack):
        return False
    if _words(arguments)[:2] == ["config", "cp"]:  # its --dest gets the values
        return False
    if not Path.cwd().is_relative_to(root.resolve()):
        return False
    import yaml

    try:
        settings = yaml.safe_load((root / "stacks" / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))
        return str(settings["config"]["rackwright:target"]).startswith("twin:")
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return False


def is_published(environment: MutableMapping[str, str]) -> bool:
    """Return whether the passphrase in *environment* is the published one of the lab."""
    if text := environment.get(TEXT):
        return text == LAB_PASSPHRASE
    try:
        return Path(environment.get(FILE, "")).read_text(encoding="utf-8").strip() == LAB_PASSPHRASE
    except (OSError, ValueError):
        return False


def _selected(pulumi: Path) -> str | None:
    """Return the stack that is selected in this directory, for a command that names none."""
    argv = [str(pulumi), "stack", "--show-name", "--non-interactive"]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return done.stdout.strip() or None


if __name__ == "__main__":
    main()
