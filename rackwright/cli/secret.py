"""The command for the secrets of a stack."""

import secrets
import subprocess
import sys
from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import StackName
from rackwright.errors import DeclarationError, Diagnostic, StepFailed, command

app = typer.Typer(no_args_is_help=True, help="The secrets of a stack.")
GENERATED_BYTES = 32
LONGEST = 64 << 10
"""Characters of a value."""
"""Random bytes of a generated value, which is written in hexadecimal digits."""


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
    from rackwright.schema.secret import CONFIG_KEY, SHORTEST, name_problem
    from rackwright.stack.load import secret_form

    root, where = project.directory(), f"secret {name}"
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
    state.select(stack, root, environment)
    planned = [recording.change(where, "set its value")]
    with recording.record("secret set", stack, arguments={"secret": name}, planned=planned):
        argv = ["pulumi", "config", "set", "--stack", stack, "--secret", "--path", f"{CONFIG_KEY}.{name}"]
        done = subprocess.run(argv, cwd=root, env=environment, input=value, capture_output=True, text=True)
        if done.returncode:
            output = " ".join(done.stderr.replace(value.strip(), "…").split())
            problem_text = f'its value is not set; pulumi printed "{output}"'
            raise StepFailed(Diagnostic(where, problem_text, help="Correct the reported error, and run it again"))
    project.notify(f"stacks/Pulumi.{stack}.yaml: {name} is set, encrypted")


def _read_value(name: str) -> str:
    if sys.stdin.isatty():
        return terminal.ask_secret(f"Value of {name}")
    return sys.stdin.read(LONGEST + 1)
