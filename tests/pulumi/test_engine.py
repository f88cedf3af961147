"""Output for people and for scripts when the real engine works with our provider."""

import copy

import pytest

from tests.pulumi.conftest import Ended

pytestmark = pytest.mark.pulumi

NOTHING_EXPECTED = 7
"""Exit status of pulumi when something would change although --expect-no-changes was given."""


@pytest.fixture(name="boxes")
def _made(boxes, states):
    """Two boxes, made: a on h1, b on h2."""

    def make():
        done = boxes.pulumi("up", "--yes", "--skip-preview")
        assert done.status == 0, done.text
        return copy.deepcopy(boxes.rig.hosts.things)

    boxes.rig.hosts.things = copy.deepcopy(states.give("boxes", boxes, make))
    boxes.rig.hosts.done.clear()
    return boxes


def drift(boxes) -> tuple[int, dict[str, set[str]]]:
    """Return the exit status of a preview that expects nothing, and the differing paths by resource."""
    ended = boxes.pulumi("preview", "--json", "--expect-no-changes")
    changed = (step for step in ended.digest["steps"] if step["op"] not in ("same", "refresh"))
    return ended.status, {step["urn"].rpartition("::")[2]: set(step["detailedDiff"]) for step in changed}


def lines_in_order(ended: Ended, wanted: list[str]) -> bool:
    lines = iter(ended.text.splitlines())
    return all(line in lines for line in wanted)


def test_a_second_run_has_nothing_to_do(boxes):
    assert drift(boxes) == (0, {})
    assert boxes.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes").status == 0
    assert boxes.rig.hosts.done == []


def test_drift_is_printed_claim_by_claim_and_mended(boxes):
    """
    A plain preview reads the hosts, names the one property, ends with 7, and the next up does just that step.
    """
    boxes.rig.hosts.things["h1"]["file:/etc/box.d/a.conf"]["mode"] = "0666"

    shown = boxes.pulumi("preview", "--diff", "--expect-no-changes")
    assert shown.status == NOTHING_EXPECTED
    wanted = ["~ claims: {", "~ file:/etc/box.d/a.conf: {", '~ mode: "0666" => "0644"']
    assert lines_in_order(shown, ["~ rackwright:toy:Box: (update)", *wanted])
    assert lines_in_order(
        shown,
        ["differs: file:/etc/box.d/a.conf.mode is 0666, wanted 0644", "step 1/1: give the file its mode"],
    )
    assert drift(boxes) == (NOTHING_EXPECTED, {"a": {'claims["file:/etc/box.d/a.conf"].mode'}})

    assert boxes.pulumi("up", "--yes", "--skip-preview").status == 0
    assert boxes.rig.hosts.done == ["h1: give the file its mode"]
    assert drift(boxes) == (0, {})


def test_refresh_finds_the_same_drift_without_a_program(boxes):
    """
    The same comparison, so the same property; shown as what became of the claim.
    """
    boxes.rig.hosts.things["h1"]["box:a"]["colour"] = "blue"
    (boxes.directory / "__main__.py").unlink()

    shown = boxes.pulumi("refresh", "--preview-only", "--diff", "--expect-no-changes")

    assert shown.status == NOTHING_EXPECTED
    assert '~ colour: "red" => "blue"' in shown.text.splitlines()


def test_a_refusal_ends_the_preview_and_the_run(boxes):
    boxes.declare(a={"kilograms": 20}, b={"host": "h2"})

    for command in (["preview"], ["up", "--yes", "--skip-preview"]):
        refused = boxes.pulumi(*command)
        assert refused.status not in (0, NOTHING_EXPECTED)
        assert "h1/a: kilograms: got 9\nexpected: a box does not shrink\nhelp: Declare less" in refused.text
    assert boxes.rig.hosts.done == []
    assert "maybeCorrupt" not in refused.text


def test_destroy_asks_the_last_declaration(boxes):
    """
    Without consent nothing is touched; the consent is a change of its own, and then it goes.
    """
    refused = boxes.pulumi("destroy", "--yes", "--skip-preview")
    assert refused.status != 0
    assert "h1/a: got destroy: false\nexpected: consent\nhelp: Write destroy: true" in refused.text
    assert boxes.rig.hosts.done == []

    boxes.declare(a={"destroy": True}, b={"host": "h2", "destroy": True})
    assert drift(boxes) == (NOTHING_EXPECTED, {"a": {"destroy"}, "b": {"destroy"}})
    assert boxes.pulumi("up", "--yes", "--skip-preview").status == 0
    assert boxes.pulumi("destroy", "--yes", "--skip-preview").status == 0
    assert boxes.rig.hosts.things == {"h1": {}, "h2": {}}


def test_a_host_that_is_off_stops_no_other(boxes):
    """
    It is a warning; the others are changed; a change pending for it fails alone, and heals by itself.
    """
    boxes.rig.hosts.down.add("h1")
    boxes.declare(a={}, b={"host": "h2", "colour": "blue"})
    changed = boxes.pulumi("up", "--yes", "--skip-preview")
    assert changed.status == 0
    warning = ("warning: h1: no answer", "expected: it answers at its address", "note: the last known state is kept")
    assert "\n".join((*warning, "help: Switch it on")) in changed.text
    assert boxes.rig.hosts.things["h2"]["box:b"]["colour"] == "blue"

    boxes.declare(a={"colour": "green"}, b={"host": "h2", "colour": "green"})
    failed = boxes.pulumi("up", "--yes", "--skip-preview")
    assert failed.status != 0
    assert boxes.rig.hosts.things["h2"]["box:b"]["colour"] == "green"

    boxes.rig.hosts.down.clear()
    assert boxes.pulumi("up", "--yes", "--skip-preview").status == 0
    assert boxes.rig.hosts.things["h1"]["box:a"]["colour"] == "green"
    assert drift(boxes) == (0, {})


def test_a_creation_that_failed_half_way_goes_on(boxes):
    """
    The engine keeps the resource, even with much to tell of it, shows what is missing, and the next run mends it.
    """
    boxes.rig.hosts.fails = "give the file"
    boxes.declare(a={}, b={"host": "h2"}, c={"tags": [f"tag-{number:04}" for number in range(5000)]})
    failed = boxes.pulumi("up", "--yes", "--skip-preview")
    assert failed.status != 0
    assert "give the file its mode ended with 1" in failed.text

    boxes.rig.hosts.fails = None
    boxes.rig.hosts.done.clear()
    assert boxes.pulumi("up", "--yes", "--skip-preview").status == 0
    assert "h1: make the box c" not in boxes.rig.hosts.done
    assert drift(boxes) == (0, {})


def test_an_absent_resource_is_refused_and_released_in_two_steps(boxes):
    """
    A tier whose array is gone is neither forgotten nor made anew over lost data.
    """
    boxes.rig.hosts.things["h1"].clear()
    gone = boxes.pulumi("up", "--yes", "--skip-preview")
    assert gone.status != 0
    assert "rackwright creates nothing over lost data" in gone.text
    assert boxes.rig.hosts.things["h1"] == {}

    boxes.declare(a={"destroy": True}, b={"host": "h2"})
    assert boxes.pulumi("up", "--yes", "--skip-preview").status == 0
    boxes.declare(b={"host": "h2"})
    assert boxes.pulumi("up", "--yes", "--skip-preview").status == 0
    boxes.declare(a={}, b={"host": "h2"})
    assert boxes.pulumi("up", "--yes", "--skip-preview").status == 0
    assert boxes.rig.hosts.things["h1"]["box:a"]["colour"] == "red"
