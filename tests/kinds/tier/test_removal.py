"""The removal of a tier."""

from rackwright.facts.facts import Facts
from tests.kinds.tier.conftest import SERIALS, TIER, owner, refused, texts
from tests.support.recorded_hosts import STACK, recorded


def test_removal_needs_consent(raw):
    plan = TIER.kind.removal(TIER.spec, Facts(raw), STACK.repository, consent=False)

    assert "would erase its data; consent at the tier" in refused(plan)


def test_removal_leaves_nothing(raw, blank):
    plan = TIER.kind.removal(TIER.spec, Facts(recorded("gpu-01")), STACK.repository, consent=True)
    owner(blank, phase="removed")
    again = TIER.kind.removal(TIER.spec, Facts(blank), STACK.repository, consent=True)

    assert texts(plan) == [
        "note in the owner file: removing",
        "unmount /srv/hot",
        "remove /etc/systemd/system/srv-hot.mount",
        "reload systemd",
        "erase the xfs on hot",
        "stop the array hot",
        *(f"erase the md superblock on {serial}" for serial in SERIALS),
        "remove /etc/udev/rules.d/62-tier-hot.rules",
        "remove /etc/mdadm/mdadm.conf.d/hot.conf",
        f"note in the owner file: removed from {', '.join(SERIALS)}",
    ]
    assert again.steps == ()
