"""The implementation of Pulumi's calls for every kind, without a rule for a single kind.

Drift, previews, plans and the check after every change all call ``rackwright.core.diff.diff``. The module attribute is
looked up at each call, so that a test can replace it.
"""

import contextlib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

from pydantic import ValidationError

from rackwright.core import diff as comparison
from rackwright.core import wire
from rackwright.core.contract import Absent, EndpointSource, Kind, Plan
from rackwright.core.wire import JSON
from rackwright.core.wording import format_changes, format_difference, format_known_later, format_manual, format_plan
from rackwright.errors import (
    ChangeRefused,
    DeclarationError,
    Diagnostic,
    StepFailed,
    Unreachable,
    UserError,
    command,
    render,
)
from rackwright.log.operation import Operation as LoggedOperation
from rackwright.provider import codec, saved_plan, state_format
from rackwright.provider.inputs import InputProblem, declared_inputs, input_problems, other_than_in_fleet, parse_spec
from rackwright.provider.logged_steps import execute_logged
from rackwright.provider.operation import Operation
from rackwright.provider.site import Sites
from rackwright.provider.state_format import check_format, format_of, set_aside_help
from rackwright.provider.subject import COMPUTED, ObservedSubject, Properties, Subject, Urn, mark_secrets
from rackwright.provider.undeclared_source import refuse_removal

Change = Literal["add", "update", "input"]
"""A claimed property that is missing, a claimed property with another value, or a changed input."""
_AGAIN = "Check the host, and run the same command again"


class InvalidResource(UserError):
    """A kind or a declaration in the state that this version of rackwright cannot read."""


class Resources:
    """Pulumi's calls on the resources of all kinds. Inputs and states are plain JSON."""

    def __init__(self, kinds: Mapping[str, Kind[Any]], sites: Sites, work: Collection[str] = ()) -> None:
        """
        Args:
            work: Type tokens of kinds that begin nothing on a host in quarantine.
        """
        self._kinds, self._sites, self._work = kinds, sites, work
        self._refused_states: set[str] = set()
        """Stacks whose state was refused for its format."""
        self._changing: set[str] = set()
        """Resources for which a preview has planned steps."""

    def package_schema(self) -> dict[str, JSON]:
        """Return Pulumi's package schema of the kinds."""
        from rackwright.provider.package_schema import package_schema  # here: few calls need the JSON Schemas

        return package_schema(self._kinds)

    def check(self, urn: Urn, properties: Properties) -> tuple[dict[str, JSON], list[InputProblem]]:
        """Return the spec's inputs with their claims, or their problems; contacts no host."""
        inputs = {name: value for name, value in properties.items() if name not in COMPUTED}
        if unknown := [*codec.unknowns(inputs)]:
            reason = "depends on another resource; a declaration is plain data: write the value itself"
            return {}, [InputProblem(name, reason) for name in unknown]
        try:
            spec = parse_spec(self._kind(urn), inputs)
        except ValidationError as error:
            return {}, input_problems(error)
        subject = Subject(self._kind(urn), spec, inputs, self._sites[urn.stack])
        declared = declared_inputs(spec)
        if problems := [*other_than_in_fleet(subject, urn)]:
            return {}, problems
        claims = mark_secrets(wire.encode_claims(subject.claims), subject.claims)
        self._sites.declared.add((urn.token, subject.id))
        return {**declared, state_format.PROPERTY: state_format.STATE_FORMAT, "claims": claims}, []

    def diff(
        self, urn: Urn, old: Properties, state: Properties, new: Properties, operation: Operation
    ) -> dict[str, Change]:
        """Return the changes from the last *state* to the inputs *new*, by property path.

        It contacts no host, but for a changed run or server the monitoring host, whose verdicts may hold it back.
        """
        self._refuse_other_format(urn, old)
        if self._maintenance_text(urn, new):
            return {}
        observation = wire.decode_observation(state.get("claims", {}))
        changes: dict[str, Change] = {}
        for difference in comparison.diff(self._subject(urn, new).claims, observation):
            seen = observation.get(difference.thing, {}).get(difference.name)
            if seen is not None and difference.is_unknown:  # no step can change it, so it is no change
                operation.warn(format_difference(difference), "unknown")
                continue
            path = codec.property_path("claims", difference.thing, difference.name)
            changes[path] = "add" if seen is None or isinstance(seen, Absent) else "update"
        # an input without effect on claims, such as a consent, counts as a change, so that pulumi shows it
        changed_inputs = sorted(name for name in {*old, *new} - COMPUTED if old.get(name) != new.get(name))
        changes |= {codec.property_path(name): "input" for name in changed_inputs}
        if changes and (text := self._quarantine_text(urn, new, operation)):
            operation.warn(f"{new['host']} is {text}; it stays as it is there", "by_hand")
            return {}
        return changes

    def import_resource(self, urn: Urn, id: str) -> tuple[dict[str, JSON], dict[str, JSON]]:
        """Return inputs and state of the declared resource *id*, all of whose claims hold.

        Raises:
            ChangeRefused: the resource is not declared, or one of its claims does not hold or is unknown.
        """
        properties = self._sites[urn.stack].find_inputs(urn.token, id)
        if properties is None:
            problem = f"the fleet declares no {urn.token} with this id"
            help = "Declare it in the fleet, as `rackwright discover` does"
            raise ChangeRefused(Diagnostic(id, problem, help=help, note="an import needs a declaration"))
        inputs, problems = self.check(urn, properties)
        if problems:
            problem = "the declaration is invalid: " + "; ".join(f"{each.path} {each.reason}" for each in problems)
            raise DeclarationError(Diagnostic(id, problem, help="Correct the fleet"))
        observed = self._subject(urn, inputs).observe()
        if observed.differences:
            problem = f"the host differs: {'; '.join(map(format_difference, observed.differences))}"
            help = f"Correct the declaration, or change the host with {command('rackwright up {}', urn.stack)}"
            note = "an import changes nothing"
            raise ChangeRefused(Diagnostic(id, problem, "a host that is as declared", help, note))
        return inputs, observed.outputs(created=True)

    def read(self, urn: Urn, inputs: Properties, state: Properties, operation: Operation) -> dict[str, JSON]:
        """Return the present state; the last one if the host is unreachable or in maintenance.

        Raises:
            ChangeRefused: the state has the format of another version.
        """
        self._refuse_other_format(urn, inputs)
        if text := self._maintenance_text(urn, inputs):
            operation.info(f"{inputs['host']} is {text}; its state is not read")
            return dict(state)
        try:
            subject = self._subject(urn, inputs)
            if subject.spec.is_only_compared and subject.site.find_inputs(urn.token, subject.id) is None:
                return dict(state)  # the fleet declares it no more: its endpoint may be gone with it
            return subject.observe().outputs(created=bool(state.get("created")))
        except (DeclarationError, InvalidResource):  # an error in the fleet, or a state that this version cannot read
            raise
        except UserError as error:  # an unreadable resource is not absent, and other resources are readable
            operation.warn(_with_note(error, "the last known state is kept"), "unreachable")
            return {
                **state,
                "unreachable": error.diagnostic.problem,
            }  # without the rest, which names the address: no state holds one

    def preview(
        self, urn: Urn, old: Properties, state: Properties, new: Properties, operation: Operation
    ) -> dict[str, JSON]:
        """Show the plan of *apply*, and return the outputs after it.

        Raises:
            ChangeRefused: *apply* would refuse the change.
        """
        self._refuse_other_format(urn, old)
        self._refuse_in_maintenance(urn, new)
        self._refuse_in_quarantine(urn, new, operation)
        subject = self._subject(urn, new)
        try:
            observed = subject.observe()
        except Unreachable as error:
            if not state and self._comes_first(subject):
                operation.info(f"{subject.spec.facts_source} is made before; the plan of this resource is unknown")
            else:
                operation.warn(_with_note(error, "the plan is unknown"), "unreachable")
            return dict(new)
        # everything differs for a new resource, so its differences are left out
        differences = observed.fixable_differences() if state else ()
        plan = observed.plan if state else _without_unmade(observed.plan)
        known_later = len(observed.plan.by_hand) - len(plan.by_hand)
        if plan.steps:
            self._changing.add(subject.id)
        if text := "\n".join(filter(None, (format_plan(plan, differences), format_known_later(known_later)))):
            operation.info(text)
        secret_things, changes = self._secret_things(urn, old), ""
        if texts := {path: text for path, text in observed.plan.texts.items() if f"file:{path}" not in secret_things}:
            changes = format_changes(subject.site.texts(subject.spec.facts_source, [*texts]), texts)
            operation.info(changes)
        operation.plan(subject.claims, plan, differences, changes, known_later)
        self._may_run(urn, old, state, observed, operation)
        return dict(new)

    def _comes_first(self, subject: Subject) -> bool:
        """Return whether the endpoint of *subject* is made by resources whose steps this preview plans."""
        prerequisites = subject.site.find_prerequisites(subject.kind.token, subject.id)
        return isinstance(subject.spec.facts_source, EndpointSource) and not self._changing.isdisjoint(prerequisites)

    def apply(
        self, urn: Urn, old: Properties, state: Properties, new: Properties, operation: Operation
    ) -> tuple[str, dict[str, JSON]]:
        """Make the claims hold, and return the id and the outputs; *old* and *state* are empty for a new resource.

        Raises:
            ChangeRefused: the change was refused, and no step ran.
            StepFailed: a step failed, or a claim does not hold after the steps.
        """
        self._refuse_other_format(urn, old)
        self._refuse_in_maintenance(urn, new)
        self._refuse_in_quarantine(urn, new, operation)
        subject = self._subject(urn, new)
        with self._record("update" if old else "create", subject) as entry:
            return self._apply(subject, urn, old, state, operation, entry)

    def _apply(
        self,
        subject: Subject,
        urn: Urn,
        old: Properties,
        state: Properties,
        operation: Operation,
        entry: LoggedOperation,
    ) -> tuple[str, dict[str, JSON]]:
        created, source = bool(state.get("created")), subject.spec.facts_source
        with (
            subject.site.slot(subject.kind.rollout_group(subject.spec), source, operation.status),
            subject.site.lease(source, subject.id, operation.status),
        ):
            observed = subject.observe(fresh=True)
            saved_plan.check(subject.id, subject.claims, observed.plan)
            if not self._may_run(urn, old, state, observed, operation):
                entry.outcome = "refused"
                return subject.id, observed.outputs(created)
            creates = observed.plan.creates
            if observed.plan.steps:
                observed = self._execute(observed, operation, created, entry)
            if fixable_differences := observed.fixable_differences():
                differences = "; ".join(map(format_difference, fixable_differences))
                raise StepFailed(
                    Diagnostic(
                        subject.id,
                        f"after all steps the host differs: {differences}",
                        help=_AGAIN,
                        id="still-different",
                    )
                )
        operation.note("done")
        if by_hand := observed.plan.by_hand:
            text = "\n".join(f"by hand: {line}" for line in format_manual(by_hand))
            operation.warn(text, "unknown" if all(each.is_unknown for each in by_hand) else "by_hand")
        return subject.id, observed.outputs(created or creates)

    def delete(self, urn: Urn, inputs: Properties, operation: Operation) -> None:
        """Remove the resource from its source if its last *inputs* allow that; leave a retired host unchanged."""
        self._refuse_other_format(urn, inputs)
        self._delete(urn, inputs, operation)
        operation.note("done")  # nothing of it is unknown any more

    def _delete(self, urn: Urn, inputs: Properties, operation: Operation) -> None:
        site, retired = self._sites[urn.stack], str(inputs.get("host"))
        if retired in site.retired_hosts:
            with site.record("delete", retired, retired, self._sites.redact):
                operation.info("its host is retired: the resource stays there unchanged")
            return
        subject = self._subject(urn, inputs)
        if (urn.token, subject.id) in self._sites.declared:  # a replacement, or the same resource at another URN
            with self._record("delete", subject):
                operation.info("the program still declares it: only its old entry leaves the state")
            return
        if subject.spec.is_only_compared:
            with self._record("delete", subject):
                operation.info("it is only compared: its entry leaves the state, and nothing else changes")
            return
        self._refuse_in_maintenance(urn, inputs)
        source = subject.spec.facts_source
        if not site.is_declared(source):
            with self._record("delete", subject):
                raise ChangeRefused(refuse_removal(urn.stack, subject.id, source))
        try:
            with self._record("delete", subject) as entry:
                saved_plan.check_removal(subject.id)
                with subject.site.lease(source, subject.id, operation.status):
                    self._remove(subject, operation, entry)
        except Unreachable as error:
            if isinstance(source, EndpointSource):
                note = f"a removal needs its endpoint, {source}"
            else:
                forget = command("rackwright host forget {} {}", urn.stack, source)
                note = f"a removal needs its host; if the host never comes back, {forget} forgets all its resources"
            raise type(error)(*(_add_context(each, subject.id, note) for each in error.diagnostics)) from error

    def _remove(self, subject: Subject, operation: Operation, entry: LoggedOperation) -> None:
        plan = subject.removal()
        if plan.refusals:
            raise ChangeRefused(*plan.refusals)
        if plan.notes:
            operation.info("\n".join(plan.notes))
        if not plan.steps:
            return
        execute_logged(subject, plan, operation.status, "delete", entry)
        if remaining_steps := subject.removal().steps:
            problem = f"the removal is incomplete: {'; '.join(step.text for step in remaining_steps)}"
            raise StepFailed(Diagnostic(subject.id, problem, help=_AGAIN))

    def _execute(
        self, observed: ObservedSubject, operation: Operation, created: bool, entry: LoggedOperation
    ) -> ObservedSubject:
        """Run the plan's steps and observe the host again; save the last observation from the first step on."""
        subject = observed.subject

        def announce(text: str) -> None:
            operation.status(text)
            operation.save_state(subject.id, observed.outputs(created))

        try:
            execute_logged(subject, observed.plan, announce, "create" if observed.plan.creates else "update", entry)
        except BaseException:
            if operation.saved_state:
                with contextlib.suppress(UserError):  # an unreachable host leaves the earlier observation
                    operation.save_state(subject.id, subject.observe(fresh=True).outputs(created))
            raise
        after = subject.observe(fresh=True)
        operation.save_state(subject.id, after.outputs(created))
        return after

    def _may_run(
        self, urn: Urn, old: Properties, state: Properties, observed: ObservedSubject, operation: Operation
    ) -> bool:
        """Return whether the steps may run.

        False: the steps are refused, but the new inputs consent to the removal. That consent must reach the state, or
        the operator could never remove a resource that cannot be fixed.

        Raises:
            ChangeRefused: the steps are refused, and the state stays unchanged.
        """
        refusals = observed.refusals(created=bool(state.get("created")))
        if not refusals:
            return True
        subject = observed.subject
        if old and subject.kind.consents(subject.spec) and not self._had_consent(urn, old):
            operation.warn(f"{render(refusals, severity='')}\nOnly the consent to its removal is stored.", "refused")
            return False
        raise ChangeRefused(*refusals)

    def _record(self, change: str, subject: Subject) -> AbstractContextManager[LoggedOperation]:
        return subject.site.record(change, str(subject.spec.facts_source), subject.id, self._sites.redact)

    def _maintenance_text(self, urn: Urn, inputs: Properties) -> str | None:
        """Return the reason for maintenance of the host today; None without maintenance."""
        return self._sites[urn.stack].maintenance.get(str(inputs.get("host")))

    def _refuse_in_maintenance(self, urn: Urn, inputs: Properties) -> None:
        if text := self._maintenance_text(urn, inputs):
            host = str(inputs["host"])
            help = "Wait, or remove `maintenance` from the fleet"
            raise ChangeRefused(
                Diagnostic(
                    host, f"the host is {text}", help=help, note="nothing is changed on it", id="host-in-maintenance"
                )
            )

    def _quarantine_text(self, urn: Urn, inputs: Properties, operation: Operation) -> str | None:
        """Return the quarantine of the host in words, for a kind that begins work there; None without one."""
        if urn.token not in self._work:
            return None
        known = self._sites[urn.stack].quarantine()
        if known is None:
            return None
        if known.unknown:
            operation.warn(f"verdicts of quarantine since the last copy are unknown: {known.unknown}", "unreachable")
        return known.text(str(inputs.get("host")))

    def _refuse_in_quarantine(self, urn: Urn, inputs: Properties, operation: Operation) -> None:
        if text := self._quarantine_text(urn, inputs, operation):
            host = str(inputs["host"])
            end = command("rackwright quarantine end {} {} --reason", urn.stack, host)
            help = f"Name another host for it, or repair the host and end its quarantine with {end}"
            expected = "runs and servers begin on hosts without verdicts"
            raise ChangeRefused(Diagnostic(host, f"the host is {text}", expected, help, id="host-in-quarantine"))

    def _refuse_other_format(self, urn: Urn, old: Properties) -> None:
        """Refuse inputs *old* from a state in another format; the error of the first resource stands for all."""
        if not old:
            return
        try:
            check_format(format_of(old), urn.stack)
        except ChangeRefused as error:
            if urn.stack in self._refused_states:
                raise ChangeRefused(replace(error.diagnostic, expected="", help="")) from None
            self._refused_states.add(urn.stack)
            raise

    def _secret_things(self, urn: Urn, old: Properties) -> set[str]:
        """Return the things that the old declaration made secret: their present content may still be secret."""
        try:
            return {claim.thing for claim in self._subject(urn, old).claims if claim.secret} if old else set()
        except InvalidResource:  # another version wrote it, and this one cannot interpret it
            return set()

    def _had_consent(self, urn: Urn, old: Properties) -> bool:
        try:
            return self._kind(urn).consents(self._subject(urn, old).spec)
        except InvalidResource:  # another version wrote it, and this one cannot interpret it
            return False

    def _kind(self, urn: Urn) -> Kind[Any]:
        if urn.token not in self._kinds:
            help = "Remove the resource from the program, or use the version of rackwright that has this kind"
            raise InvalidResource(
                Diagnostic(urn.token, "no such kind of resource", f"one of {', '.join(sorted(self._kinds))}", help)
            )
        return self._kinds[urn.token]

    def _subject(self, urn: Urn, inputs: Properties) -> Subject:
        kind = self._kind(urn)
        try:
            spec = parse_spec(kind, inputs)
        except ValidationError as error:
            reasons = "; ".join(f"{each.path} {each.reason}" for each in input_problems(error))
            problem = f"its declaration in the state is invalid: {reasons}"
            raise InvalidResource(Diagnostic(urn.token, problem, help=set_aside_help(urn.stack))) from None
        return Subject(kind, spec, inputs, self._sites[urn.stack])


def _without_unmade(plan: Plan) -> Plan:
    """Return the *plan* of a new resource without unknown values, which the steps make; the run compares them again."""
    return replace(plan, by_hand=tuple(each for each in plan.by_hand if not each.is_unknown)) if plan.steps else plan


def _with_note(error: UserError, note: str) -> str:
    """Return *error* as the engine prints it, with *note* on its last line."""
    return replace(error.diagnostic, note=note).render(severity="")


def _add_context(diagnostic: Diagnostic, where: str, note: str) -> Diagnostic:
    return replace(diagnostic, where=where, note="; ".join(filter(None, (diagnostic.note, note))))
