"""Removals of tiers: refused without consent; with consent nothing is left of them."""

from shlex import quote
from typing import Any

from tests.support.diagnostics import sentences
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.tiers import DEVICE, Place, require_whole_tier

OWNERS = "cd /var/lib/rackwright/owners && sha256sum *"


def destroy_without_consent(lab: Lab, everywhere: list[Place]) -> None:
    """Have all of them destroyed without consent: each is refused by name, and stays as it is."""
    lab.log("destroy without consent")
    before = _read_hosts(lab, everywhere)
    done = lab.pulumi("destroy", "--yes")
    need(done.returncode, "pulumi destroy ended with 0 without consent")
    for place in everywhere:
        text = [line for line in sentences(done.stdout + done.stderr).splitlines() if place.resource in line]
        need(any("consent" in line for line in text), f"destroy does not say why {place.resource} stays")
        require_whole_tier(lab, place)
    need(_read_hosts(lab, everywhere) == before, "destroy without consent changed an owner file or a superblock")
    need(not lab.differing(), "something differs after a destroy that was refused")


def _read_hosts(lab: Lab, everywhere: list[Place]) -> dict[str, str]:
    """Return what stands in the owner files and, but for what every write counts up, in the superblocks."""
    seen = {place.host: lab.ssh(place.host, OWNERS) for place in everywhere}
    for place in everywhere:
        examine = " ".join(map(quote, place.serials))
        script = f"{DEVICE}; for serial in {examine}; do mdadm --examine --brief $(device $serial); done"
        seen[place.resource] = lab.ssh(place.host, script)
    return seen


def destroy_with_consent(lab: Lab, everywhere: list[Place]) -> None:
    """Have all of them destroyed with consent, of which the audit gives notice before."""
    lab.log("destroy with consent")

    def allow(content: Any) -> None:
        for place in everywhere:
            tiers = content["hosts"][place.host].setdefault("tiers", {})
            tiers.setdefault(place.name, {})["destroy"] = "allowed"

    lab.edit(allow)
    lab.up()
    notices = {resource["name"] for resource in lab.audit(status=0)["resources"] if resource["notice"]}
    need(notices == {place.resource for place in everywhere}, f"the audit gives notice of {notices} only")
    lab.pulumi("destroy", "--yes", status=0)
    for place in everywhere:
        nothing_is_left(lab, place)
    state = lab.pulumi("stack", "export", status=0).stdout
    need("rackwright:storage:Tier" not in state, "the state still has a tier")


def nothing_is_left(lab: Lab, place: Place) -> None:
    """Fail if anything is left of a tier, be it on a former member."""
    left = lab.ssh(place.host, _LEFT.format(place=place, device=DEVICE, serials=" ".join(map(quote, place.serials))))
    need(not left, f"left of {place.resource}: {left}")


_LEFT = """
{device}
for serial in {serials}; do
    dev=$(device $serial)
    wipefs -n $dev
    ! mdadm --examine $dev 2>/dev/null
done
! findmnt -n --mountpoint {place.mount}
[ ! -e {place.device} ] || echo {place.device}
for file in {place.conf} {place.rule}; do [ ! -e $file ] || echo $file; done
unit=$(systemd-escape --path --suffix=mount {place.mount})
[ ! -e "/etc/systemd/system/$unit" ] || echo "$unit"
! ls "/etc/systemd/system/local-fs.target.wants/$unit" 2>/dev/null
"""
"""Prints what is left of a tier: nothing."""
