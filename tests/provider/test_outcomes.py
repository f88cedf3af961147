"""Outcomes that the provider reports to the command that started pulumi."""

from rackwright.provider import lifetime, outcomes


def test_without_a_request_nothing_is_noted(tmp_path, monkeypatch):
    monkeypatch.delenv(lifetime.VARIABLE, raising=False)

    outcomes.note("failed", "a")

    assert outcomes.read(tmp_path / "none") == {}


def test_what_was_true_before_a_resource_was_done_is_no_longer(tmp_path, monkeypatch):
    """
    A claim that was unknown in the preview and holds after the update leaves no trace; what is noted later stays.
    """
    monkeypatch.setenv(lifetime.VARIABLE, str(tmp_path / "outcomes"))

    for outcome, id in (("unknown", "a"), ("unknown", "b"), ("done", "a"), ("by_hand", "a")):
        outcomes.note(outcome, id)

    assert outcomes.read(tmp_path / "outcomes") == {"unknown": {"b"}, "done": {"a"}, "by_hand": {"a"}}
