"""A storage tier: an md array, its filesystem, its mount, and the files that bring them back at boot."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rackwright.core.contract import Claim, Difference, Observation, OneOf, Plan, Want
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.drives import drive_claim, health_claims
from rackwright.kinds.shared.identity import identity_claim
from rackwright.kinds.tier import boot, luks, remedies, scrub
from rackwright.kinds.tier.observe import filesystem_on, find_array, find_carrier, header_on, observe, waiting_spares
from rackwright.kinds.tier.spec import TierSpec

HEALTHY = OneOf(("optimal", "syncing", "rebuilding", "reshaping"))
"""Syncing, rebuilding and reshaping onto declared members hold: else no preview is clean for a day after a repair."""


class TierKind:
    """Plain md on whole drives, xfs or ext4 on it, mounted by UUID."""

    token: ClassVar[str] = "rackwright:storage:Tier"
    spec = TierSpec

    def id(self, spec: TierSpec) -> str:
        return spec.id

    def claims(self, spec: TierSpec, repository: Repository) -> tuple[Claim, ...]:
        array: dict[str, Want] = {
            "level": spec.level,
            "devices": len(spec.members),
            "members": tuple(sorted(spec.serials)),
            "state": HEALTHY,
            "superblocks_lost": (),
            "member_flags": (),
        }
        if spec.declared.chunk_kib:
            array["chunk_kib"] = spec.declared.chunk_kib
        if spec.level != "raid0":
            array["sync_limit"] = "none"
            array["bitmap"] = "internal" if spec.declared.has_bitmap else "none"
        if spec.level == "raid5":
            array["ppl"] = spec.declared.ppl
        if spec.declared.sync_speed_max_kib is not None:
            while_scrubbed = spec.declared.scrub and spec.declared.scrub.speed_max_kib
            speeds = (spec.declared.sync_speed_max_kib, *([while_scrubbed] if while_scrubbed else []))
            array["sync_speed_max_kib"] = OneOf(speeds) if len({*speeds}) > 1 else speeds[0]
        filesystem: dict[str, Want] = {"type": spec.filesystem}
        if spec.declared.array is None:
            array["metadata"] = "1.2"
            array["array_size"] = "default"
            if spec.member_kib is not None:
                array["member_kib"] = spec.member_kib
            filesystem |= {
                "stripe_kib": spec.stripe_kib,
                "width_kib": OneOf(spec.widths_kib) if len(spec.widths_kib) > 1 else spec.widths_kib[0],
                "fills_array": True,
            }
        mount: dict[str, Want] = {
            "source": spec.carrier,
            "type": spec.filesystem,
            "options": spec.mount_options,
            "undeclared_options": (),
            "swap_files": (),
        }
        array_claims = (
            identity_claim(spec.host, spec.identity),
            *(drive_claim(drive) for drive in spec.drives),
            *health_claims(spec.host, spec.drives, spec.health),
            remedies.array(f"md:{spec.array_key}", spec.host, array),
            *_redundancy(spec),
            remedies.filesystem(f"filesystem:{spec.carrier}", filesystem),
            remedies.mount(f"mount:{spec.declared.mount}", mount, remedies.THEIR_MOUNT if spec.declared.array else ""),
        )
        if spec.declared.array:  # rackwright does not manage the boot files of an array that was taken over
            return array_claims
        return (
            *array_claims,
            *boot.claims(spec, repository),
            *luks.claims(spec, repository),
            *scrub.claims(spec, repository),
            Claim(f"owner:tier-{spec.name}", {"id": spec.id, "fleet": spec.fleet, "phase": "ready"}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(observe, claims, facts)

    def report(self, spec: TierSpec, facts: Facts) -> dict[str, Any]:
        try:
            array = find_array(facts, spec.array_key)
            if array is None:
                return {}
            carrier = find_carrier(facts, spec.carrier)
            filesystem = filesystem_on(facts, carrier) if carrier else None
            report: dict[str, Any] = {
                "array": array.md_name,
                "array_uuid": array.uuid,
                "state": "scrubbing" if array.sync_action == "check" else array.condition,
                "sync_completed": array.sync_completed,
            }
            if spares := waiting_spares(facts, array):
                report["spares"] = list(spares)
            if spec.declared.key and (header := header_on(facts, array)):
                report["luks_uuid"] = header.uuid
            if progress := array.progress:
                report["progress"] = progress
            return report | ({} if filesystem is None else {"filesystem_uuid": filesystem.uuid})
        except UnknownFact as reason:
            return {"unknown": str(reason)}

    def plan(self, spec: TierSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        from rackwright.kinds.tier import plan as planning

        return planning.plan(spec, differences, facts, repository)

    def removal(self, spec: TierSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        from rackwright.kinds.tier import removal as removing

        return removing.removal(spec, facts, consent)

    def consents(self, spec: TierSpec) -> bool:
        return spec.destroy == "allowed"

    def rollout_group(self, spec: TierSpec) -> None:
        return None


def _redundancy(spec: TierSpec) -> Iterator[Claim]:
    """Yield the claims about the number of waiting spares, and that the last scrub found no mismatch.

    Mismatches of RAID1 and RAID10 may be harmless, and are not claimed. Source: md(4).
    """
    thing = f"md:{spec.array_key}"
    if spec.level != "raid0":
        remedy = remedies.SPARE.format(host=spec.host)
        yield Claim(thing, {"spares_waiting": len(spec.spares)}, severity="warning", remedy=remedy)
        yield Claim(thing, {"scrub": "complete"}, severity="warning", remedy=remedies.HALF_SCRUBBED)
    if spec.level in ("raid5", "raid6"):
        yield Claim(thing, {"mismatch_count": 0}, severity="warning", remedy=remedies.DISAGREES)
