"""Run the real pulumi, with the published passphrase of the lab only for a stack of a twin.

`rackwright env` puts the launcher that starts this file first in PATH. All other stacks need a passphrase or a secrets
provider of their own: pulumi asks for it, or fails. This file imports nothing of the package, so that it starts fast.
"""

import os
import re
import subprocess
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path

LAB_PASSPHRASE = "rackwright-lab"  # noqa: S105 - it is published
"""The passphrase in rackwright.schema.secret; a test compares the two."""
ROOT = "RACKWRIGHT_ROOT"
LAUNCHERS = (".rackwright", "bin")
"""Directory of the launchers in a project: its pulumi starts this file."""
TEXT, FILE = "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"
REENCRYPTS = "change-secrets-provider"
"""The only command that needs the lab's passphrase for another stack: it reads the secrets that it encrypts again."""
ELSEWHERE = ("-C", "--cwd", "--config-file")
"""Options with which pulumi reads other settings than this file."""


def main() -> None:
    """Replace this process by pulumi."""
    program = next((file for each in real_directories() if os.access(file := Path(each, "pulumi"), os.X_OK)), None)
    if program is None:
        sys.exit("pulumi: PATH has no pulumi except for rackwright's launcher; run `rackwright toolchain`")
    arguments = sys.argv[1:]
    if root := os.environ.get(ROOT):
        choose_passphrase(arguments, os.environ, Path(root), program)
    use_virtual_environment(os.environ, Path.cwd())
    os.execv(program, [str(program), *arguments])  # noqa: S606 - pulumi replaces this process


def real_directories() -> list[str]:
    """Return the directories of PATH without those of rackwright's launchers, in any project."""
    return [directory for directory in os.get_exec_path() if Path(directory).parts[-2:] != LAUNCHERS]


def use_virtual_environment(environment: MutableMapping[str, str], directory: Path) -> None:
    """Put the virtual environment that the Pulumi.yaml of *directory* names first in PATH.

    The language host that is built from Go modules does not read ``runtime.options.virtualenv`` as pulumi passes it.
    """
    import yaml

    for project in (directory, *directory.parents):
        if (project / "Pulumi.yaml").is_file():
            with suppress(OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
                options = yaml.safe_load((project / "Pulumi.yaml").read_text(encoding="utf-8"))["runtime"]["options"]
                programs = project / options["virtualenv"] / "bin"
                environment["PATH"] = os.pathsep.join((str(programs), environment.get("PATH", os.defpath)))
            return


def choose_passphrase(
    arguments: Sequence[str], environment: MutableMapping[str, str], root: Path, pulumi: Path
) -> None:
    """Set the lab's passphrase for the stack of a twin, and remove it for every other stack."""
    stack = named_stack(arguments)
    if stack is None and not touches_others(arguments):
        stack = environment.get("PULUMI_STACK") or _selected_stack(pulumi)
    if stack is not None and is_rehearsal(stack, arguments, root):
        if TEXT not in environment and FILE not in environment:
            environment[FILE] = str(root / ".rackwright" / "passphrase")
    elif REENCRYPTS not in arguments and is_published(environment):
        environment.pop(TEXT, None)
        environment.pop(FILE, None)


def named_stack(arguments: Sequence[str]) -> str | None:
    """Return the stack that the command line names."""
    stack = None
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--stack", "-s"):
            stack = next(rest, None)
        elif match := re.fullmatch(r"(?:--stack=|-s=?)(.+)", argument):
            stack = match[1]
    words = _words(arguments)
    if stack is None and len(words) == 3 and words[0] == "stack" and words[1] in ("init", "select", "rm"):
        return words[2]
    return stack


def touches_others(arguments: Sequence[str]) -> bool:
    """Return whether the command needs no stack, or may create or change a stack other than the selected one."""
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
    """Return whether the settings of *stack* name a twin as its target; False if they cannot be read for certain."""
    if any(argument.startswith(ELSEWHERE) for argument in arguments) or not re.fullmatch(r"[\w.-]+", stack):
        return False
    if _words(arguments)[:2] == ["config", "cp"]:  # it writes to the stack of its option --dest
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


def _selected_stack(pulumi: Path) -> str | None:
    """Return the stack that is selected in this directory; None if there is none."""
    argv = [str(pulumi), "stack", "--show-name", "--non-interactive"]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return done.stdout.strip() or None


if __name__ == "__main__":
    main()
