"""The commands for the secrets of a stack."""

import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import StackName
from rackwright.errors import DeclarationError, Diagnostic, StepFailed, command

if TYPE_CHECKING:
    from rackwright.log.entry import PlannedChange
    from rackwright.log.operation import Operation

app = typer.Typer(no_args_is_help=True, help="The secrets of a stack.")
GENERATED_BYTES = 32
"""Random bytes of a generated value, which is written in hexadecimal digits; more where a longer value is needed."""
LONGEST = 64 << 10
"""Characters of a value."""


@app.callback()
def _secret() -> None: ...


@app.command("set")
def set_secret(
    stack: StackName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the secret: of `{secret: NAME}` in the fleet.")],
    generate: Annotated[bool, typer.Option("--generate", help="Take 64 random hexadecimal digits.")] = False,
) -> None:
    """Set the value of a secret, encrypted in the stack's settings. Touches no host.

    The command asks for the value on a terminal, twice and without showing it; otherwise stdin is the value, such as
    `rackwright secret set rack tls_key < host.key`.

    Exit status: 2 the name or the value is refused, 4 pulumi failed.
    """
    from rackwright.cli import recording, state
    from rackwright.schema.secret import SHORTEST, name_problem
    from rackwright.stack.secret_uses import secret_form

    root, where = project.directory(), _place(name)
    if problem := name_problem(name):
        raise DeclarationError(problem.at(where))
    environment = project.environment(stack)
    value = secrets.token_hex(GENERATED_BYTES) if generate else _read_value(name)
    if len(value.strip()) < SHORTEST:
        help = f"Run {command('rackwright secret set {} {}', stack, name)} with a longer value, or with --generate"
        problem_text = f"the value has {len(value.strip())} characters"
        raise DeclarationError(Diagnostic(where, problem_text, f"{SHORTEST} characters or more", help))
    if len(value) > LONGEST:
        help = "Check the file; keys and certificates are shorter"
        raise DeclarationError(Diagnostic(where, "the value is too long", f"at most {LONGEST:,} characters", help))
    form = secret_form(stack, root, name)
    if form and (problem := form.problem(stack, name, value)):
        raise DeclarationError(problem.at(where))
    state.ensure(stack, root, environment)
    with recording.record("secret set", stack, arguments={"secret": name}, planned=_changes([name])) as operation:
        _encrypt(operation, stack, {name: value}, environment)


@app.command("generate")
def generate(stack: StackName) -> None:
    """Give each secret without a value a random one, encrypted in the stack's settings. Touches no host.

    The command prints names alone. It names and leaves the secrets whose values a person or another service has, such
    as private keys of certificates, URLs, and passwords of accounts elsewhere. Values that are set stay as they are.

    Exit status: 1 secrets are left for a person, 2 the fleet is refused, 4 pulumi failed.
    """
    from rackwright.cli import recording, state
    from rackwright.stack.secret_settings import read_secret_lengths
    from rackwright.stack.secret_uses import missing_uses, secret_uses
    from rackwright.stack.settings import RACK, settings

    root = project.directory()
    virtual = settings(stack, root)["target"] != RACK
    missing = missing_uses(secret_uses(stack, root), read_secret_lengths(stack, root), virtual)
    random = {name: _random(use.shortest) for name, use in missing.items() if use.form is None}
    if random:
        environment, names = project.environment(stack), {"secrets": ", ".join(random)}
        state.ensure(stack, root, environment)
        with recording.record("secret generate", stack, arguments=names, planned=_changes(random)) as operation:
            _encrypt(operation, stack, random, environment)
    left = {name: use.form for name, use in missing.items() if use.form is not None}
    for name, form in left.items():
        project.notify(f"{name} is left: {form.help(stack, name)}")
    if not missing:
        project.notify(f"stack {stack}: no secret lacks a value")
    raise typer.Exit(1 if left else 0)


def _random(shortest: int) -> str:
    return secrets.token_hex(max(GENERATED_BYTES, (shortest + 1) // 2))


def _place(name: str) -> str:
    return f"secret {name}"


def _changes(names: Iterable[str]) -> "list[PlannedChange]":
    from rackwright.cli import recording

    return [recording.change(_place(name), "set its value") for name in names]


def _encrypt(operation: "Operation", stack: str, values: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Have pulumi encrypt *values* by name in the settings of *stack*; no command line holds one.

    Raises:
        StepFailed: Pulumi failed; the values before are set.
    """
    from rackwright.schema.secret import CONFIG_KEY

    for name, value in values.items():
        argv = ["pulumi", "config", "set", "--stack", stack, "--secret", "--path", f"{CONFIG_KEY}.{name}"]
        root = project.directory()
        done = subprocess.run(argv, cwd=root, env=environment, input=value, capture_output=True, text=True)
        if done.returncode:
            output = " ".join(done.stderr.replace(value.strip(), "…").split())
            problem = f'its value is not set; pulumi printed "{output}"'
            raise StepFailed(Diagnostic(_place(name), problem, help="Correct the reported error, and run it again"))
        operation.complete("", _place(name), "done")
        project.notify(f"stacks/Pulumi.{stack}.yaml: {name} is set, encrypted")


def _read_value(name: str) -> str:
    if sys.stdin.isatty():
        return terminal.ask_secret(f"Value of {name}")
    return sys.stdin.read(LONGEST + 1)
