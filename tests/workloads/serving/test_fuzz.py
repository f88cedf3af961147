"""Foreign input in small numbers; `make soak` has the same in large ones."""

from tests.fuzz import serving_bodies


def test_a_body_is_read_or_refused_within_bounds() -> None:
    serving_bodies.run(300, 1)
