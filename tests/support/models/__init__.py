"""Models for servers under test, made in the environment of the workloads; and clients that ask them."""

FIRST, SECOND, WRONG, ROWS = "first", "second", "wrong", "rows.npz"
"""In full precision; in 8 bits; one that says it is good and is not; rows that tell."""
