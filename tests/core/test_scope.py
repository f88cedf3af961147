"""What a target cannot show is left out, and nothing else."""

from rackwright.core.contract import Claim, Resource
from rackwright.core.scope import rehearsable_claims

CLAIMS = (Claim("a", {}), Claim("b", {}, scope="kernel"), Claim("c", {}, scope="hardware"))


def test_claims_beyond_the_target_are_left_out():
    assert [claim.thing for claim in rehearsable_claims(CLAIMS, Resource(host="h"))] == ["a", "b", "c"]
    assert [claim.thing for claim in rehearsable_claims(CLAIMS, Resource(host="h", not_rehearsable=("hardware",)))] == [
        "a",
        "b",
    ]
