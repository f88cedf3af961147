"""The settings of a stack in ``stacks/Pulumi.NAME.yaml``: its fleet, its target, and what the target lends."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from rackwright import locations
from rackwright.errors import DeclarationError, Diagnostic, command
from rackwright.fleet.source import BYTES_MAX, Source, read
from rackwright.locations import relative_path
from rackwright.schema.fleet import Fleet
from rackwright.schema.problem import Problem, hint
from rackwright.schema.released import WITHOUT
from rackwright.schema.twin import unknown_names

SETTINGS = ("fleet", "target")


CONTAINERS = "rackwright:containers"


ENVIRONMENTS = "rackwright:environments"


MIRRORS = "rackwright:mirrors"


WORKLOADS = "rackwright:workloads"


WORKLOADS_ROLE = "workloads"
"""The role that installs the environment of runs and servers on its hosts."""


RACK, TWIN = "rack", "twin:"


_NO_FLEETS = re.compile(r"Pulumi\.|.*\.lock\.yaml$")
"""Names of files beside the fleets that are not fleets."""


def settings(name: str, project: Path) -> dict[str, str]:
    """Return ``fleet`` and ``target`` from ``stacks/Pulumi.<name>.yaml``."""
    path = settings_file(name, project)
    if not path.is_file():
        stacks = locations.stack_names(project)
        help = hint(name, stacks, f"Create it with {command('pulumi stack init {}', name)} and set fleet and target")
        expected = f"stacks here: {', '.join(stacks) or 'none'}"
        raise DeclarationError(Diagnostic(f"stack {name}", f"got no {relative_path(path)}", expected, help))
    source = read(relative_path(path))
    config = source.data.get("config")
    values = {key: (config if isinstance(config, dict) else {}).get(f"rackwright:{key}") for key in SETTINGS}
    missing = [f"rackwright:{key}" for key, value in values.items() if not isinstance(value, str)]
    if missing:
        help = f"Run {command('pulumi config set --stack {} {} VALUE', name, missing[0])}"
        problem, expected = f"got no {' and no '.join(missing)}", "a stack is a fleet and a target"
        raise DeclarationError(source.error(Problem(problem, expected, help), ("config",)))
    texts = {key: str(value) for key, value in values.items()}
    if wrong := list(_wrong_settings(name, texts, path.parent)):
        raise DeclarationError(*(source.error(problem, ("config", *problem.path)) for problem in wrong))
    return texts


def settings_source(name: str, project: Path) -> Source:
    """Return ``stacks/Pulumi.<name>.yaml`` with the lines of its values."""
    return read(relative_path(settings_file(name, project)))


def settings_file(name: str, project: Path) -> Path:
    return project / "stacks" / f"Pulumi.{name}.yaml"


def _wrong_settings(name: str, values: Mapping[str, str], stacks: Path) -> Iterator[Problem]:
    fleet, target = (values[key] for key in SETTINGS)
    places = [stacks.parent.resolve(), stacks.resolve()]
    if not any((stacks / fleet).resolve().is_relative_to(place) for place in places):
        expected, help = f"a fleet is a file of this project, below {places[0]}", "Copy it into the folder of this file"
        yield Problem(f"got {fleet!r}, which is {(stacks / fleet).resolve()}", expected, help, ("rackwright:fleet",))
    elif not (stacks / fleet).is_file():
        fleets = [path.name for path in sorted(stacks.glob("*.yaml")) if _is_fleet(path)]
        expected, help = f"fleets here: {', '.join(fleets) or 'none'}", hint(fleet, fleets, "Correct the name")
        yield Problem(f"got {fleet!r}", expected, help, ("rackwright:fleet",))
    if target != RACK and not re.fullmatch(rf"{TWIN}[a-z0-9-]+", target):
        expected, help = f"a target is {RACK} or {TWIN}NAME", f"Write {RACK}, or {TWIN}{name}"
        yield Problem(f"got {target!r}", expected, help, ("rackwright:target",))


def _is_fleet(path: Path) -> bool:
    """Return whether a YAML file names itself a fleet; a proposal is no other file."""
    try:
        with path.open("rb") as file:
            return not _NO_FLEETS.match(path.name) and re.search(rb"^fleet:", file.read(BYTES_MAX), re.M) is not None
    except OSError:
        return False


def stack_of_twin(name: str, project: Path, target: str) -> str:
    """Return the stack whose settings describe the twin's hosts, for a stack that uses them: the twin's own, if any."""
    own = target.removeprefix(TWIN)
    return own if own != target and settings_file(own, project).is_file() else name


LISTS = {
    CONTAINERS: ("hosts", "has containers"),
    WITHOUT: ("hosts", "leaves hosts out"),
    ENVIRONMENTS: ("environments", "leaves environments out"),
}
"""The settings of a twin that are lists: what they have, and what only a twin does."""


def load_list(setting: str, name: str, project: Path, target: str) -> tuple[str, ...] | None:
    """Return the names in the list *setting* of ``stacks/Pulumi.<name>.yaml``; None if it is not there."""
    source = settings_source(name, project)
    names = source.data["config"].get(setting)
    if names is None:
        return None
    wrong: Problem | None = None
    noun, does = LISTS[setting]
    if target == RACK:
        expected = f"only a twin {does}, and the target is {RACK}"
        wrong = Problem(f"got {names!r}", expected, f"Remove it, or set target to {TWIN}{name}")
    elif not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        wrong = Problem(f"got {names!r}", f"it is a list of {noun}", "Write it like [NAME, …]")
    if wrong:
        raise DeclarationError(source.error(wrong, ("config", setting)))
    return tuple(names)


def check_list(setting: str, names: Sequence[str], source: Source, known: Collection[str]) -> None:
    """Refuse *names* in the list *setting* of the file *source* that are none of the *known* ones."""
    noun, _ = LISTS[setting]
    if wrong := list(unknown_names(names, known, f"{noun} of {'the fleet' if noun == 'hosts' else 'role workloads'}")):
        raise DeclarationError(*(source.error(problem, ("config", setting, *problem.path)) for problem in wrong))


LENDABLE = {
    MIRRORS: ("a rack has its own mirrors", "`lent` gives hosts of a twin the mirrors of this computer"),
    WORKLOADS: (
        "hosts of a rack have their own environment",
        "`lent` gives containers of a twin read access to this computer's environment of the workloads",
    ),
}
"""The expectation in the error for each lending setting, on a rack and on a twin."""


def lends(setting: str, name: str, project: Path, virtual: bool) -> bool:
    """Return whether *setting* in ``stacks/Pulumi.<name>.yaml`` shares this computer's own with a twin."""
    source = settings_source(name, project)
    value = source.data["config"].get(setting)
    if value is None or (value == "lent" and virtual):
        return value is not None
    on_rack, on_twin = LENDABLE[setting]
    expected, help = (on_twin, "Write lent, or remove it") if virtual else (on_rack, "Remove it")
    raise DeclarationError(source.error(Problem(f"got {value!r}", expected, help), ("config", setting)))


def loan_notices(fleet: Fleet, containers: frozenset[str]) -> tuple[str, ...]:
    """Return a notice if hosts of a twin do not use the environment of this computer."""
    if not containers:
        return (f"{WORKLOADS}: lent has no effect: the twin has no containers, and virtual machines do not get it",)
    own = [name for name, host in fleet.hosts.items() if name in containers and WORKLOADS_ROLE in host.roles]
    if not own:
        return ()
    reason = f"role {WORKLOADS_ROLE} installs the environment of {', '.join(own)}"
    return (f"{WORKLOADS}: lent has no effect on runs and servers that these hosts alone carry: {reason}",)
