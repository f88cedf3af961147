"""Programs planted in texts of a fleet: each text writes a file on this computer if Ansible renders it."""

import shlex
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rackwright.core.contract import PlayRole
from rackwright.hosts.ansible import Plays
from rackwright.hosts.session import NotDone
from rackwright.schema.ssh import Endpoint, Login
from tests.support.sources import ROOT

TEXTS = (
    "{{ lookup('pipe', 'COMMAND') }}",
    "{{ query('pipe', 'COMMAND') | first }}",
    "{% set planted = lookup('pipe', 'COMMAND') %}{{ planted }}",
    "{# a comment #}a text {{- lookup('pipe', 'COMMAND') -}} after it",
    "{% if lookup('pipe', 'COMMAND') %}a{% endif %}",
    "#jinja2: trim_blocks:False\n{{ lookup('ansible.builtin.pipe', 'COMMAND') }}",
    "{{ lookup('lines', 'COMMAND') }}",
)
"""Forms of a planted program, by the constructs of jinja2; COMMAND is its place."""


def text(number: int, command: str) -> str:
    """Return the text with *command* in the form of that *number*."""
    return TEXTS[number % len(TEXTS)].replace("COMMAND", command)


def shapes(planted: str) -> tuple[Any, ...]:
    """Return values with the text *planted*: alone, in a list, in a mapping, as a key, and deep below keys."""
    return (
        planted,
        [planted, {"key": [planted]}],
        {"key": planted},
        {planted: "value"},
        {"key": [{planted: {"key": planted}}]},
        {"__ansible_unsafe": planted},
    )


def option_paths(options: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each option, and of each option below it."""
    for name, option in options.items():
        yield (*before, name)
        yield from option_paths(option.get("options", {}), (*before, name))


def role_options() -> dict[str, list[tuple[str, ...]]]:
    """Return the paths of all options of each role."""
    result = {}
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        main = yaml.safe_load(path.read_text())["argument_specs"]["main"]
        result[path.parent.parent.name] = list(option_paths(main.get("options", {})))
    return result


@dataclass(frozen=True)
class Planted:
    """Variables of one host, one of which holds a planted program."""

    role: str
    option: tuple[str, ...]
    variables: Mapping[str, Any]


def planted_variables(role: str, paths: list[tuple[str, ...]], forms: int, directory: Path) -> list[Planted]:
    """Return one host's variables for each option, each shape of a value, and *forms* of the text."""
    result = []
    for path in paths:
        for shape in range(len(shapes(""))):
            for form in range(forms):
                number = len(result) + form  # other forms in each shape, if there are fewer than all
                command = f"touch {shlex.quote(str(directory / f'{role}-{len(result)}'))}"
                value = shapes(text(number, command))[shape]
                for name in reversed(path[1:]):
                    value = [{name: value}]
                result.append(Planted(role, path, {path[0]: value}))
    return result


class _Connection:
    """Where no host is: port 1 of this computer."""

    login = Login(name="nobody", user="nobody", agent=True, become=False)

    def __init__(self, host: str) -> None:
        self.endpoint = Endpoint(host, "127.0.0.1", 1, (self.login,), Path("/dev/null"))


class _Hosts:
    """A pool of hosts that do not exist."""

    is_cancelled = False

    def connection(self, host: str) -> _Connection:
        return _Connection(host)


def play(role: str, planted: list[Planted]) -> dict[str, str]:
    """Play *role* with the real Ansible, one host for each of *planted*; return the failure of each host."""
    hosts = {f"host-{number}": each for number, each in enumerate(planted)}
    plays = Plays(ROOT, _Hosts(), lambda text: text, lambda role: frozenset(hosts))  # type: ignore[arg-type]
    failures: dict[str, str] = {}

    def one(host: str, each: Planted) -> None:
        try:
            plays.play(PlayRole(f"play role {role}", role, each.variables), host, lambda text: None)
        except NotDone as error:
            failures[host] = str(error)

    threads = [threading.Thread(target=one, args=item) for item in hosts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def written(directory: Path, planted: list[Planted]) -> list[str]:
    """Return the options whose planted program ran."""
    names = {path.name for path in directory.iterdir()}
    return [".".join(each.option) for number, each in enumerate(planted) if f"{each.role}-{number}" in names]
