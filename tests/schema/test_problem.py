"""Problems of declared values, and the paths of their values."""

from rackwright.schema.problem import Problem


def test_the_conflicting_value_gets_the_same_keys_as_the_wrong_one():
    problem = Problem(
        "got 'a'", "each name once", "Rename one of the two", ("nics", 1), note="a NIC has it", also=("nics", 0)
    )

    below = problem.below("hosts", "alpha")

    assert (below.path, below.also) == (("hosts", "alpha", "nics", 1), ("hosts", "alpha", "nics", 0))
    assert below.diagnostic == problem.diagnostic


def test_a_problem_without_a_conflicting_value_gets_none():
    assert Problem("got 1", "2", "Write 2", ("mtu",)).below("network").also is None
