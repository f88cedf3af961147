"""The secrets in a stack's settings: their names and lengths, without their values."""

from pathlib import Path

from rackwright.errors import DeclarationError
from rackwright.schema import secret
from rackwright.schema.problem import Problem
from rackwright.stack.settings import settings_source


def read_secret_lengths(name: str, project: Path) -> dict[str, int | None]:
    """Return the secrets that have an encrypted value in ``stacks/Pulumi.<name>.yaml``, by name.

    The value is the length in bytes of the secret; None if pulumi's format does not show it.
    """
    source = settings_source(name, project)
    entries = source.data["config"].get(secret.CONFIG_KEY, {})
    place = ("config", secret.CONFIG_KEY)
    expected = "each secret is encrypted by itself, under its name"
    if not isinstance(entries, dict) or _is_encrypted(entries):
        help = f"Remove it, and run `{secret.setting_command(name, 'NAME')}` for each"
        raise DeclarationError(source.error(Problem("got no names", expected, help), place))
    wrong = [name_problem for each in entries if (name_problem := secret.name_problem(each))]
    errors = [source.error(problem, place) for problem in wrong]
    lengths = {}
    for each, value in entries.items():
        if _is_encrypted(value):
            lengths[each] = secret.encrypted_bytes(value["secure"])
            problem = secret.length_problem(name, each, lengths[each], secret.SHORTEST)
        else:
            help = f"Choose another value, as this one is exposed, and run `{secret.setting_command(name, each)}`"
            problem = Problem("got a value in clear", expected, help)
        if problem:
            errors.append(source.error(problem, (*place, each)))
    if errors:
        raise DeclarationError(*errors)
    return lengths


def _is_encrypted(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"secure"} and isinstance(value["secure"], str)
