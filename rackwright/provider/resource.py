"""What each of Pulumi's calls does: one loop over the table of kinds, with no rule about any of them.

Every comparison is ``rackwright.core.diff.diff``, looked up when it is called: drift, previews, plans and the check
after every change are that one function.
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from rackwright.core import diff as comparison
from rackwright.core import wire
from rackwright.core.contract import Absent, Kind, Resource
from rackwright.core.wire import JSON
from rackwright.core.wording import format_changes, format_difference, format_plan
from rackwright.errors import (
    DeclarationError,
    DeclarationErrors,
    HostUnreachable,
    RackwrightError,
    Refused,
    StepFailed,
    command,
)
from rackwright.provider import codec
from rackwright.provider.operation import Operation
from rackwright.provider.site import Sites
from rackwright.provider.subject import COMPUTED, Look, Properties, SeveralRefused, Subject, Urn, sealed

Change = Literal["add", "update", "input"]
"""A property that is claimed but not there, one that is otherwise, or an input that was written otherwise."""
_AGAIN = "Look at the host, then run it again: what holds already is left alone"


class Problem(NamedTuple):
    """An input that cannot be."""

    path: str
    reason: str


class Resources:
    """The resources of all kinds, as Pulumi's engine calls for them. Inputs and states are plain JSON."""

    def __init__(self, kinds: Mapping[str, Kind[Any]], sites: Sites) -> None:
        self._kinds, self._sites = kinds, sites

    def check(self, urn: Urn, given: Properties) -> tuple[dict[str, JSON], list[Problem]]:
        """Return the spec's inputs with their claims, or what is wrong with them. No host is touched."""
        inputs = {name: value for name, value in given.items() if name not in COMPUTED}
        if unknown := [*codec.unknowns(inputs)]:
            reason = "is known only after another resource is made; a declaration is plain data: write the value itself"
            return {}, [Problem(name, reason) for name in unknown]
        try:
            spec = _parse(self._kind(urn), inputs)
        except ValidationError as error:
            return {}, _problems(error)
        subject = Subject(self._kind(urn), spec, inputs, self._sites[urn.stack])
        declared = wire.normalise(spec.model_dump(mode="json", exclude_none=True))
        return {**declared, "claims": sealed(wire.encode_claims(subject.claims), subject.claims)}, []

    def diff(
        self, urn: Urn, old: Properties, state: Properties, new: Properties, operation: Operation
    ) -> dict[str, Change]:
        """Return what differs between the last *state* and the inputs *new*, by property path. No host is touched."""
        if self._left_alone(urn, new):
            return {}
        found = wire.decode_observation(state.get("claims", {}))
        format_changes: dict[str, Change] = {}
        for difference in comparison.diff(self._subject(urn, new).claims, found):
            seen = found.get(difference.thing, {}).get(difference.name)
            if seen is not None and difference.is_unknown:  # nothing can be done about it, so it is no change
                operation.warn(format_difference(difference), "unknown")
                continue
            path = codec.property_path("claims", difference.thing, difference.name)
            format_changes[path] = "add" if seen is None or isinstance(seen, Absent) else "update"
        # an input that alters no claim, such as a consent, would be stored silently if it were no change
        altered = sorted(name for name in {*old, *new} - COMPUTED if old.get(name) != new.get(name))
        return format_changes | {codec.property_path(name): "input" for name in altered}

    def imported(self, urn: Urn, id: str) -> tuple[dict[str, JSON], dict[str, JSON]]:
        """Return inputs and state of what is declared as *id*, and is there as declared.

        Raises:
            Refused: it is not declared, or something of it does not hold or cannot be known.
        """
        given = self._sites[urn.stack].declared(urn.token, id)
        if given is None:
            fix = "Write it into the fleet first, as `rackwright discover` does"
            raise Refused(id, f"the fleet has no {urn.token} of that id", "what is declared is imported", fix)
        inputs, problems = self.check(urn, given)
        if problems:
            got = "; ".join(f"{problem.path} {problem.reason}" for problem in problems)
            raise DeclarationError(id, got, "an import needs a whole declaration", "Correct the fleet")
        look = self._subject(urn, inputs).look()
        if look.differences:
            got = "these do not hold: " + "; ".join(map(format_difference, look.differences))
            fix = "Correct the declaration, or let `rackwright up` mend the host"
            raise Refused(id, got, "what is as declared is imported, and nothing is changed for it", fix)
        return inputs, look.outputs(created=True)

    def read(self, urn: Urn, inputs: Properties, state: Properties, operation: Operation) -> dict[str, JSON]:
        """Return the state as the host shows it now, or the last one where the host is not reached or left alone."""
        if text := self._left_alone(urn, inputs):
            operation.info(f"{inputs['host']} is {text}; it is not looked at")
            return dict(state)
        try:
            return self._subject(urn, inputs).look().outputs(created=bool(state.get("created")))
        except DeclarationErrors:  # of the fleet: there is no stack without it
            raise
        except RackwrightError as error:  # whyever it cannot be read: it is not gone, and others can be
            operation.warn(f"{error} The last known state is kept.", "unreachable")
            return {**state, "unreachable": error.got}  # without the rest, which names the address: no state holds one

    def preview(
        self, urn: Urn, old: Properties, state: Properties, new: Properties, operation: Operation
    ) -> dict[str, JSON]:
        """Say what *apply* would do, and return what it would leave.

        Raises:
            Refused: *apply* would refuse.
        """
        self._need_free(urn, new)
        subject = self._subject(urn, new)
        try:
            look = subject.look()
        except HostUnreachable as error:
            operation.warn(f"{error} What would be done there is not known.", "unreachable")
            return dict(new)
        # of a new resource everything differs
        if text := format_plan(look.plan, look.unmended() if state else ()):
            operation.info(text)
        hidden = self._secret(urn, old)
        if texts := {path: text for path, text in look.plan.texts.items() if f"file:{path}" not in hidden}:
            operation.info(format_changes(subject.site.hosts.texts(subject.spec.host, [*texts]), texts))
        self._may_run(urn, old, state, look, operation)
        return dict(new)

    def apply(
        self, urn: Urn, old: Properties, state: Properties, new: Properties, operation: Operation
    ) -> tuple[str, dict[str, JSON]]:
        """Make the claims hold, be it the first time (*old* and *state* are empty); return the id and the outputs.

        Raises:
            Refused: no step was run.
            StepFailed: a step failed, or did not do what it says.
        """
        self._need_free(urn, new)
        subject = self._subject(urn, new)
        created, host = bool(state.get("created")), subject.spec.host
        with (
            subject.site.slot(subject.kind.rollout_group(subject.spec), host, operation.status),
            subject.site.hosts.lock(host, subject.id, operation.status),
        ):
            look = subject.look(fresh=True)
            if not self._may_run(urn, old, state, look, operation):
                return subject.id, look.outputs(created)
            creates = look.plan.creates
            if look.plan.steps:
                look = self._execute(look, operation, created)
            if unmended := look.unmended():
                got = "these do not hold: " + "; ".join(map(format_difference, unmended))
                raise StepFailed(subject.id, got, "every claim holds after its steps", _AGAIN)
        operation.note("done")
        if look.plan.by_hand:
            text = "\n".join(f"by hand: {format_difference(difference)}" for difference in look.plan.by_hand)
            operation.warn(text, "by_hand")
        return subject.id, look.outputs(created or creates)

    def delete(self, urn: Urn, inputs: Properties, operation: Operation) -> None:
        """Take it off its host, if the *inputs* it was last made with allow that; of a retired host nothing is."""
        if inputs.get("host") in self._sites[urn.stack].retired:
            operation.info("its host is retired: it is let go as it is")
            return
        self._need_free(urn, inputs)
        subject = self._subject(urn, inputs)
        host = subject.spec.host
        try:
            with subject.site.hosts.lock(host, subject.id, operation.status):
                self._remove(subject, operation)
        except HostUnreachable as error:
            forget = command("rackwright host forget {} {}", urn.stack, host)
            fix = f"Bring the host back and run it again, or give all of it up with {forget}"
            raise Refused(subject.id, str(error), "nothing is forgotten that may still be there", fix) from error

    def _remove(self, subject: Subject, operation: Operation) -> None:
        plan = subject.removal()
        if plan.refusals:
            raise SeveralRefused(plan.refusals)
        if plan.notes:
            operation.info("\n".join(plan.notes))
        if not plan.steps:
            return
        subject.site.execute(subject.spec.host, subject.id, plan.steps, operation.status)
        if left := subject.removal().steps:
            got = "its removal left work to do: " + "; ".join(step.text for step in left)
            raise StepFailed(subject.id, got, "nothing of it may be left", _AGAIN)

    def _execute(self, look: Look, operation: Operation, created: bool) -> Look:
        """Run the plan's steps and look again; from the first step on, the state learns what was found last."""
        subject = look.subject

        def announce(text: str) -> None:
            operation.status(text)
            operation.keep(subject.id, look.outputs(created))

        try:
            subject.site.execute(subject.spec.host, subject.id, look.plan.steps, announce)
        except BaseException:
            if operation.kept:
                with contextlib.suppress(RackwrightError):  # a host that is gone leaves what was seen before
                    operation.keep(subject.id, subject.look(fresh=True).outputs(created))
            raise
        after = subject.look(fresh=True)
        operation.keep(subject.id, after.outputs(created))
        return after

    def _may_run(self, urn: Urn, old: Properties, state: Properties, look: Look, operation: Operation) -> bool:
        """Return whether the steps may run.

        False only where they are refused, but a consent to its removal has just been given: that is stored, or nobody
        could ever get rid of what cannot be mended.

        Raises:
            Refused: they may not, and nothing is stored.
        """
        refusals = look.refusals(created=bool(state.get("created")))
        if not refusals:
            return True
        subject = look.subject
        if old and subject.kind.consents(subject.spec) and not self._consented(urn, old):
            operation.warn(f"{SeveralRefused(refusals)}\nOnly the consent to its removal is stored.", "refused")
            return False
        raise SeveralRefused(refusals)

    def _left_alone(self, urn: Urn, inputs: Properties) -> str | None:
        """Return why the host is left alone today, None where it is not."""
        return self._sites[urn.stack].maintenance.get(str(inputs.get("host")))

    def _need_free(self, urn: Urn, inputs: Properties) -> None:
        if text := self._left_alone(urn, inputs):
            host = str(inputs["host"])
            fix = "Wait, or take `maintenance` out of the fleet"
            raise Refused(host, f"it is {text}", "nothing is changed on it meanwhile", fix)

    def _secret(self, urn: Urn, old: Properties) -> set[str]:
        """Return the things that were secret as they were declared before: what is found there may still be."""
        try:
            return {claim.thing for claim in self._subject(urn, old).claims if claim.secret} if old else set()
        except DeclarationError:  # written by another version, and not for this one to interpret
            return set()

    def _consented(self, urn: Urn, old: Properties) -> bool:
        try:
            return self._kind(urn).consents(self._subject(urn, old).spec)
        except DeclarationError:  # written by another version, and not for this one to interpret
            return False

    def _kind(self, urn: Urn) -> Kind[Any]:
        if urn.token not in self._kinds:
            fix = "Take the resource out of the program, or use the rackwright that knows it"
            raise DeclarationError(urn.token, "no such kind", f"there are {', '.join(sorted(self._kinds))}", fix)
        return self._kinds[urn.token]

    def _subject(self, urn: Urn, inputs: Properties) -> Subject:
        kind = self._kind(urn)
        try:
            spec = _parse(kind, {name: value for name, value in inputs.items() if name not in COMPUTED})
        except ValidationError as error:
            got = "; ".join(f"{problem.path} {problem.reason}" for problem in _problems(error))
            fix = "Use the rackwright that wrote it, or declare it anew"
            raise DeclarationError(urn.token, got, "the state must hold a whole declaration", fix) from None
        return Subject(kind, spec, inputs, self._sites[urn.stack])


def _parse(kind: Kind[Any], inputs: Properties) -> Resource:
    spec: Resource = kind.spec.model_validate_json(json.dumps(inputs))  # JSON, where a list may become a tuple
    return spec


def _problems(error: ValidationError) -> list[Problem]:
    return [
        Problem(codec.property_path(*found["loc"]) if found["loc"] else "", f"got {found['input']!r}: {found['msg']}")
        for found in error.errors(include_url=False)
    ]
