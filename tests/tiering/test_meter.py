"""The progress of a transfer: amounts, rate and the rest of the time, at most every ten seconds."""

from rackwright.tiering.meter import Meter


def test_a_line_has_amounts_rate_and_the_remaining_time():
    lines, now = list[str](), [0.0]
    meter = Meter(lines.append, "uploaded", 4_000_000, clock=lambda: now[0])

    for now[0] in (5.0, 9.0, 10.0, 15.0, 20.0):
        meter.add(200_000)

    assert lines == [
        "uploaded 600kB of 4MB, 60kB per second, 1 min left",
        "uploaded 1MB of 4MB, 50kB per second, 2 min left",
    ]


def test_a_finished_transfer_has_no_remaining_time():
    lines, now = list[str](), [0.0]
    meter = Meter(lines.append, "read back", 100, clock=lambda: now[0])

    now[0] = 100.0
    meter.add(100)

    assert lines == ["read back 100B of 100B, 1B per second"]
