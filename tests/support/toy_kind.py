"""A toy kind, and hosts in memory that do what its steps say: everything the provider's loop can meet, without SSH."""

import contextlib
import copy
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from rackwright.core.contract import (
    Absent,
    Between,
    Claim,
    Command,
    Difference,
    Observation,
    Plan,
    Put,
    Resource,
    Step,
    UnknownValue,
    Value,
    Want,
)
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic, HostUnreachable, StepFailed
from rackwright.facts.facts import Facts
from rackwright.progress import Progress

TOKEN = "rackwright:toy:Box"


class BoxSpec(Resource):
    name: str
    colour: str
    kilograms: int = 5
    tags: tuple[str, ...] = ()
    wipe: dict[str, str] = Field(default_factory=dict)
    destroy: bool = False


class Box:
    """A box: can be made and painted; does not shrink, and only a person can shut its lid."""

    token: ClassVar[str] = TOKEN
    spec = BoxSpec

    def id(self, spec: BoxSpec) -> str:
        return f"{spec.host}/{spec.name}"

    def claims(self, spec: BoxSpec, repository: Repository) -> tuple[Claim, ...]:
        box: dict[str, Want] = {
            "colour": spec.colour,
            "kilograms": Between(spec.kilograms),
            "lid": "shut",
            "tags": spec.tags,
        }
        return (
            Claim(f"box:{spec.name}", box, remedy="look into the box"),
            Claim(f"file:/etc/box.d/{spec.name}.conf", {"mode": "0644"}),
            Claim(f"lock:{spec.name}", {"digest": "d1"}, secret=True),
            Claim(f"scale:{spec.name}", {"exact": True}, scope="hardware"),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return {claim.thing: {name: _seen(facts, claim.thing, name) for name in claim.want} for claim in claims}

    def report(self, spec: BoxSpec, facts: Facts) -> dict[str, Any]:
        return {"weighed": 5.0}

    def plan(self, spec: BoxSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        open_lid = tuple(item for item in differences if item.name == "lid" and not isinstance(item.actual, Absent))
        names = {item.name for item in differences if not item.is_unknown}
        refusals = tuple(
            Diagnostic(f"{self.id(spec)}: kilograms", f"got {item.actual}", "a box does not shrink", "Declare less")
            for item in differences
            if item.name == "kilograms" and isinstance(item.actual, int)
        )
        if spec.colour == "invisible":
            refusals += (
                Diagnostic(f"{self.id(spec)}: colour", "got invisible", "paint can be seen", "Choose another"),
            )
        steps: list[Step] = []
        if f"box:{spec.name}" not in facts.raw["things"]:
            steps.append(Put(f"note that the box {spec.name} is ours", f"/var/owners/{spec.name}", "{}"))
            lost = ("RW-1: ext4 3f2a",) if spec.wipe else ()
            steps.append(Command(f"make the box {spec.name}", ("make", spec.name), destroys=lost, creates=True))
        if "colour" in names or "tags" in names:
            steps.append(
                Command(f"paint the box {spec.name} {spec.colour}", ("paint", spec.name, spec.colour, *spec.tags))
            )
        if "mode" in names:
            steps.append(Command("give the file its mode", ("chmod", spec.name)))
        if "digest" in names:
            steps.append(Command("change the lock", ("lock", spec.name)))
        notes = (f"{spec.host} holds {len(facts.raw['things'])} things",)
        return Plan(tuple(steps), refusals, open_lid, notes if steps else ())

    def removal(self, spec: BoxSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        if f"box:{spec.name}" not in facts.raw["things"]:
            return Plan()
        if not consent:
            return Plan(refusals=(Diagnostic(self.id(spec), "got destroy: false", "consent", "Write destroy: true"),))
        return Plan(
            (Command(f"take the box {spec.name} away", ("drop", spec.name)),), notes=("its content goes with it",)
        )

    def consents(self, spec: BoxSpec) -> bool:
        return spec.destroy

    def rollout_group(self, spec: BoxSpec) -> None:
        return None


def _seen(facts: Facts, thing: str, name: str) -> Value:
    there = facts.raw["things"].get(thing, {})
    value = there.get(name, Absent())
    return tuple(value) if isinstance(value, list) else value


class Memory:
    """Hosts as dictionaries of things, with everything that can go wrong on them."""

    def __init__(self) -> None:
        self.things: dict[str, dict[str, dict[str, Any]]] = {"h1": {}, "h2": {}}
        self.down: set[str] = set()
        self.done: list[str] = []
        """Steps that ran, as host: text."""
        self.fails: str | None = None
        """A step whose text contains this fails."""
        self.lies = False
        """Steps end well and do nothing."""
        self.hangs: threading.Event | None = None
        """A step waits for it."""
        self.at_step = threading.Event()
        self.locked: list[str] = []
        self.is_cancelled = False

    def facts(self, host: str, fresh: bool = False) -> Facts:
        if host in self.down or host not in self.things:
            raise HostUnreachable(Diagnostic(host, "no answer", "it answers at its address", "Switch it on"))
        return Facts({"things": copy.deepcopy(self.things[host])})

    @contextlib.contextmanager
    def lease(self, host: str, id: str, progress: Progress) -> Iterator[None]:
        self.facts(host)
        self.locked.append(id)
        yield

    def texts(self, host: str, paths: Sequence[str]) -> dict[str, str | None]:
        return dict.fromkeys(paths)

    def cancel(self) -> None:
        self.is_cancelled = True

    def close(self) -> None:
        pass

    def unknown(self, host: str, thing: str, name: str) -> None:
        self.things[host][thing][name] = UnknownValue("no permission")


def execute(hosts: Memory, host: str, id: str, steps: Sequence[Step], progress: Progress) -> None:
    for step in steps:
        progress(step.text)
        hosts.at_step.set()
        progress(f"{step.text}: half")
        if hosts.hangs:
            hosts.hangs.wait()
        if host in hosts.down:
            raise StepFailed(Diagnostic(id, f"the connection ended in {step.text}", "it lasts", "Run it again"))
        if hosts.fails and hosts.fails in step.text:
            raise StepFailed(Diagnostic(id, f"{step.text} ended with 1", "every step ends well", "Run it again"))
        hosts.done.append(f"{host}: {step.text}")
        if isinstance(step, Command) and not hosts.lies:
            _run(hosts.things[host], *step.argv)


def _run(things: dict[str, dict[str, Any]], verb: str, name: str, *rest: str) -> None:
    box, file, lock = f"box:{name}", f"file:/etc/box.d/{name}.conf", f"lock:{name}"
    match verb:
        case "make":
            things[box] = {"colour": "raw", "kilograms": 9, "lid": "shut", "tags": []}
        case "paint":
            things[box] |= {"colour": rest[0], "tags": list(rest[1:])}
        case "chmod":
            things[file] = {"mode": "0644"}
        case "lock":
            things[lock] = {"digest": "d1"}
        case "drop":
            for thing in (box, file, lock):
                things.pop(thing, None)
