"""The creation of all tiers of a fleet."""

from functools import partial

from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.tiers import (
    Place,
    is_idle,
    places,
    require_whole_tier,
    write_file,
)

SYNC_SECONDS = 900


def create_tiers(lab: Lab) -> dict[Place, str]:
    """Create all tiers with one `up`; return the sum of the test file of each tier, after its first sync."""
    lab.log("up")
    lab.up()
    everywhere = places(lab.fleet)
    for place in everywhere:
        require_whole_tier(lab, place)
    lab.log("up again")
    again = lab.steps("up", "--yes", "--skip-preview", running=True)
    need(not again, f"up again, and these are steps: {again}")
    need(not (differing := lab.differing()), f"{format_claims(differing)} differ after up")
    for place in everywhere:
        eventually(partial(is_idle, lab, place), f"the first sync of {place.resource} ends", SYNC_SECONDS)
    return {place: write_file(lab, place) for place in everywhere}
