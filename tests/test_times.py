"""Tables of the time of tests."""

from tests import times


def test_the_longest_comes_first_and_children_count(tmp_path) -> None:
    file = tmp_path / "times.jsonl"
    file.write_text(
        '["tests/a/test_x.py::test_1[a|b]", 2.0, 0.5, 1.0]\n'
        '["tests/a/test_x.py::test_2", 0.1, 0.1, 0]\n'
        '["tests/b/test_y.py::test_3", 9.0, 0.2, 0]\n'
    )
    text = times.pages(times.read([file]))

    assert text.startswith("3 tests, 0.0 minutes")
    assert "| `tests/a` | 2 | 1.6 | 2.1 |\n| `tests/b` | 1 | 0.2 | 9.0 |" in text
    assert "| `tests/a/test_x.py::test_1[a/b]` | 1 | 1.5 | 2.0 |" in text
