"""Records of a run while it trains: each is sent once, and none can hold it up."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mlflow_stub import Stub
from workloads.tracking import provenance
from workloads.tracking.server import TrackingUnreachable, connect
from workloads.tracking.tracker import BYTES, PARAMETERS, Tracker, flatten, parse_metrics


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"name": "digits", "steps": 3, "model": {"kind": "toy"}}))
    return tmp_path


def write(out: Path, *lines: dict[str, Any] | str) -> None:
    with (out / "metrics.jsonl").open("a") as file:
        file.writelines(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)


def tracker(stub: Stub, out: Path, messages: list[str]) -> Tracker:
    return Tracker(connect(stub.url, {}), out, messages.append, interval_seconds=0.01)


def test_all_that_a_run_reports_arrives_once_and_how_it_ended(stub, out):
    messages: list[str] = []
    write(out, {"event": "start", "host": "alpha", "world": 2, "pid": 1}, {"step": 1, "loss": 2.5, "time": 10.5})
    with tracker(stub, out, messages):
        write(out, {"step": 2, "loss": 1.5}, {"event": "finished", "step": 2, "held_out_accuracy": 0.9})

    assert stub.metrics() == [("loss", 2.5, 1), ("loss", 1.5, 2), ("held_out_accuracy", 0.9, 2)]
    assert stub.statuses() == ["RUNNING", "FINISHED"]
    [made] = [body for what, body in stub.posted if what == "runs/create"]
    assert (made["experiment_id"], made["run_name"]) == ("7", f"digits {out.name}")
    parameters = [body["params"] for what, body in stub.posted if body.get("params")]
    assert parameters == [
        [{"key": "name", "value": "digits"}, {"key": "steps", "value": "3"}, {"key": "model.kind", "value": "toy"}]
    ]
    tags = [tag for what, body in stub.posted if what == "runs/log-batch" for tag in body.get("tags", ())]
    assert {"key": "start.host", "value": "alpha"} in tags and "start.pid" not in str(tags)
    assert messages == []


@pytest.mark.parametrize(("event", "status"), [("stopped", "KILLED"), ("start", "FAILED")])
def test_a_run_that_does_not_finish_is_not_called_finished(stub, out, event, status):
    write(out, {"event": event, "step": 3}, {"step": 3, "loss": 1.0})
    with tracker(stub, out, []):
        pass

    assert stub.statuses()[-1] == status


def test_records_for_a_server_that_is_away_are_kept_and_sent_by_the_next_start(stub, out):
    messages: list[str] = []
    write(out, {"step": 1, "loss": 1.0})
    tracker(stub, out, messages).send()
    stub.status = 503
    write(out, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 0.25})
    with tracker(stub, out, messages):
        pass
    assert stub.metrics() == [("loss", 1.0, 1)]
    assert "503: not now" in messages[0] and "The run continues" in messages[0]
    assert f"2 lines were not sent to {stub.url}" in messages[-1] and f"tracking {out}` sends them" in messages[-1]

    stub.status = 200
    with tracker(stub, out, messages):
        pass
    assert stub.metrics() == [("loss", 1.0, 1), ("loss", 0.5, 2), ("loss", 0.25, 3)]
    assert len([what for what, _ in stub.posted if what == "runs/create"]) == 1, "it is the same run"


def test_a_server_that_does_not_answer_delays_no_other(stub, out):
    """
    Lines are written while it hangs, and the end of the run waits for it no longer than it may.
    """
    messages: list[str] = []
    stub.hold.clear()
    following = tracker(stub, out, messages)
    with following:
        write(out, {"step": 1, "loss": 1.0})
        assert following.close(seconds=0.1) is False
        stub.hold.set()

    assert "1 lines were not sent" in messages[0]


def test_another_server_gets_all_from_the_beginning(stub, out):
    write(out, {"step": 1, "loss": 1.0})
    tracker(stub, out, []).send()
    with Stub() as other:
        tracker(other, out, []).send()

        assert other.metrics() == stub.metrics() == [("loss", 1.0, 1)]


def test_a_line_that_is_being_written_waits_and_one_that_is_spoilt_is_passed_over(stub, out):
    write(out, {"step": 1, "loss": 1.0}, '{"step": 2, "lo\n', '{"step": 3, "loss": 0.5')
    following = tracker(stub, out, [])
    following.send(ending=False)
    assert stub.metrics() == [("loss", 1.0, 1)]

    write(out, "}\n")
    following.send()
    assert stub.metrics() == [("loss", 1.0, 1), ("loss", 0.5, 3)]


def test_many_lines_go_in_few_requests(stub, out):
    lines = [{"step": step, "loss": 1.0, "accuracy": 0.5, "rate": 0.1} for step in range(1, 2001)]
    write(out, *lines)
    (out / "config.json").write_text(json.dumps({f"k{number}": number for number in range(PARAMETERS + 1)}))
    tracker(stub, out, []).send()

    assert len(stub.metrics()) == 6000
    requests = [body for what, body in stub.posted if what == "runs/log-batch"]
    assert all(len(body.get("metrics", ())) <= 1000 and len(body.get("params", ())) <= PARAMETERS for body in requests)
    assert (out / "metrics.jsonl").stat().st_size < BYTES and len(requests) == 8


def test_nothing_is_asked_of_a_server_for_a_run_that_reports_nothing(stub, out):
    with tracker(stub, out, []):
        pass

    assert stub.posted == [] and not (out / "tracking.json").exists()


def test_figures_are_numbers_and_nothing_else():
    line = {"step": 4, "time": 2.0, "loss": float("nan"), "rate": 0.1, "name": "x", "ok": True, "epoch": 1}

    found = [(each["key"], each["value"], each["timestamp"]) for each in parse_metrics(line)]
    assert found == [("rate", 0.1, 2000), ("epoch", 1, 2000)]
    assert list(parse_metrics({"event": "start", "step": 0, "world": 2})) == []


def test_a_configuration_is_reported_flat_and_complete():
    assert dict(flatten({"a": {"b": [1, 2], "c": None, "d": {}}, "e": "x" * 9000})) == {
        "a.b": "[1, 2]",
        "a.d": "{}",
        "e": "x" * 6000,
    }


def test_the_thread_of_a_tracker_ends_with_it(stub, out):
    before = threading.active_count()
    with tracker(stub, out, []):
        assert threading.active_count() > before

    assert not [thread for thread in threading.enumerate() if thread.name == "tracking"]


def test_an_absent_host_is_not_reached():
    with pytest.raises(TrackingUnreachable, match="Connection refused"):
        connect("http://127.0.0.1:1", {}).get("experiments/get")


def test_a_run_by_hand_has_no_declaration_and_a_lost_one_is_unknown(tmp_path):
    (tmp_path / "lineage.json").write_text('{"declared": false, "parent": null}')
    values = provenance.collect(tmp_path)
    assert {values[key] for key in ("fleet", "declaration", "lock", "hosts", "parent")} == {"none"}
    (tmp_path / "lineage.json").write_text('{"declared": true, "parent": null}')
    assert not provenance.collect(tmp_path).keys() & {"fleet", "declaration", "lock", "hosts"}
