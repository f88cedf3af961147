"""Foreign input in small numbers; `make soak` has the same in large ones."""

from tests.support.fuzz import gguf, serving_bodies, workload_files


def test_a_body_is_read_or_refused_within_bounds() -> None:
    serving_bodies.run(300, 1)


def test_the_header_of_a_model_is_taken_or_refused_within_bounds() -> None:
    gguf.run(300, 1)


def test_a_file_or_an_answer_is_read_or_refused_within_bounds() -> None:
    workload_files.run(300, 1)
