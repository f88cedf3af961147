"""The metrics of servers, runs and certificates: what each reports, under names that no account can choose."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts import service_metrics
from rackwright.facts.metrics_text import to_text
from rackwright.facts.probe import isolate, servers
from rackwright.facts.program import service_metrics_program
from tests.support.sources import ROOT

TEXT = """\
# TYPE rackwright_server_queue_requests gauge
rackwright_server_queue_requests 3.0
rackwright_server_requests_total{route="/v1/completions",status="200"} 99.0
rackwright_server_requests_total{route="/x",status="200",server="other"} 1.0
rackwright_server_accuracy NaN
process_cpu_seconds_total 12.5
node_load1 9
rackwright_server_requests_total{route="\\"} 1
"""


def host(directory: Path, *names: str) -> str:
    for name in names:
        place = directory / f"etc/rackwright/servers/{name}"
        place.mkdir(parents=True)
        (place / "server.json").write_text(json.dumps({"key": f"/etc/rackwright/servers/{name}/own_key"}))
        (place / "own_key").write_text(f"key of {name}")
    return str(directory)


def test_a_server_chooses_neither_its_name_nor_metrics_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def request(root: str, plan: Any, path: str, key: str = "") -> tuple[int, bytes]:
        if key == "key of silent":
            raise OSError("no answer")
        return (200, TEXT.encode()) if path == "/metrics" else (503 if plan["key"].count("waiting") else 200, b"{}")

    monkeypatch.setattr(servers, "request", request)
    text = service_metrics.metrics(host(tmp_path, "chat", "silent", "waiting"))
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    assert {name: value for name, value in samples.items() if "chat" in name} == {
        'rackwright_server_up{server="chat"}': "1",
        'rackwright_server_queue_requests{server="chat"}': "3.0",
        'rackwright_server_requests_total{server="chat",route="/v1/completions",status="200"}': "99.0",
        'rackwright_server_accuracy{server="chat"}': "NaN",
    }
    assert samples['rackwright_server_up{server="silent"}'] == samples['rackwright_server_up{server="waiting"}'] == "0"
    assert 'rackwright_server_queue_requests{server="waiting"}' in samples, "it answers, and is not ready"
    assert not [name for name in samples if "other" in name or not name.startswith("rackwright_")]


def test_a_server_with_many_series_is_cut():
    many = "".join(f'rackwright_server_x{{key="k{number}"}} 1\n' for number in range(9))
    assert len([*service_metrics.with_label("chat", many, 3)]) == 3


@pytest.mark.parametrize("odd", [
    "rackwright_server_x 1e", "rackwright_server_x 1e+", "rackwright_server_x é", "rackwright_server_x 0x1",
    'rackwright_server_x{0a="b"} 1', 'rackwright_server_x{a="b",a="c"} 1', 'rackwright_server_é 1',
    'rackwright_server_x{é="b"} 1', 'rackwright_server_x{a="\\x"} 1', 'rackwright_server_x{a="b"c="d"} 1',
    'rackwright_server_x{a="b"',  "rackwright_server_x 1 1e99", 'rackwright_server_x{,} 1', "rackwright_server_x ١",
])  # fmt: skip
def test_a_line_that_prometheus_cannot_read_is_left_out(odd: str):
    """Prometheus took one such line for the end of the whole host's metrics."""
    right = 'rackwright_server_x{a="b, c=\\"d}",e=""} -1.5e+300'
    lines = [line for _, line in service_metrics.with_label("chat", f"{odd}\n{right}\nrackwright_server_y +Inf")]

    assert lines == [
        'rackwright_server_x{server="chat",a="b, c=\\"d}",e=""} -1.5e+300', 'rackwright_server_y{server="chat"} +Inf',
    ]  # fmt: skip


def test_servers_with_many_series_leave_the_host_below_the_limit_of_its_target(tmp_path: Path, monkeypatch):
    many = "".join(f'rackwright_server_x{{key="k{number}"}} 1\n' for number in range(4000)).encode()
    monkeypatch.setattr(servers, "request", lambda root, plan, path, key="": (200, many))
    text = service_metrics.metrics(host(tmp_path, *(f"server-{number}" for number in range(20))))

    assert 30_000 < len(text.splitlines()) < 50_000
    assert all(f'server="server-{number}",' in text for number in range(20))


def test_a_run_reports_its_progress_and_a_loss_that_is_no_number():
    rank = {"step": 250, "loss": 1.5, "step_seconds": 0.5, "time": 1000.0, "expert_load_max": 3.5}
    ranks = {"metrics.jsonl": rank, "metrics-1.jsonl": {**rank, "loss": "nan", "time": 999.0}}
    run = {
        "outcome": None,
        "steps": 300,
        "ranks": ranks,
        "checkpoint": 200,
        "has_checkpoints": True,
        "every_steps": 100,
    }
    facts = {
        "letters": run,
        "new": {**run, "ranks": {}},
        "ended": {**run, "outcome": "failed"},
        "odd": {"unknown": "x"},
    }
    found = {
        (labels["run"], name.removeprefix("rackwright_run_")): value
        for name, labels, value in service_metrics.run_samples(facts)
    }

    assert {name: value for (run_name, name), value in found.items() if run_name == "letters"} == {
        "running": 1, "steps": 300, "progress_timestamp_seconds": 1000, "loss_finite": 0, "step": 250, "loss": 1.5,
        "step_seconds": 0.5, "expert_load_max": 3.5, "checkpoint_step": 200, "checkpoint_every_steps": 100,
    }  # fmt: skip
    assert {name for run_name, name in found if run_name == "new"} == {"running", "steps"}
    assert found["ended", "running"] == 0
    assert not [run_name for run_name, _ in found if run_name == "odd"]


LINE = '{"step": 1, "loss": 1.0, "time": 1.0}\n'


def runs_of(directory: Path, *names: str) -> str:
    for name in names:
        for folder in (f"etc/rackwright/runs/{name}", f"out/{name}/checkpoints", f"home/{name}"):
            (directory / folder).mkdir(parents=True)
        etc = directory / f"etc/rackwright/runs/{name}"
        (etc / "run.json").write_text(json.dumps({"home": f"/home/{name}", "out": f"/out/{name}"}))
        (etc / "config.json").write_text(json.dumps({"model": {"kind": "x"}, "steps": 5}))
        (directory / f"out/{name}/metrics.jsonl").write_text(LINE)
    return str(directory)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def many(path: Path) -> None:
    path.write_text(LINE)
    for number in range(10_001):
        (path.parent / f"x{number}").symlink_to("nothing")


@pytest.mark.parametrize(("file", "make"), [
    ("out/odd/metrics.jsonl", lambda path: path.symlink_to("/etc/passwd")),
    ("out/odd/metrics.jsonl", os.mkfifo),
    ("out/odd/metrics.jsonl", Path.mkdir),
    ("out/odd/metrics.jsonl", many),
    ("out/odd/metrics.jsonl", lambda path: path.write_text('{"step": 1%s, "time": 1}' % ("0" * 400))),
    ("out/odd/metrics.jsonl", lambda path: path.write_text('{"step": 1, "time": 1%s}' % ("0" * 400))),
    ("out/odd/metrics.jsonl", lambda path: path.write_text('{"step": 1, "time": NaN}')),
    ("out/odd/metrics.jsonl", lambda path: path.write_text('{"step": 1, "x": ' + "[" * 30_000)),
    ("home/odd/state.json", lambda path: path.write_text('{"outcome": 5, "attempt": "x"}')),
    ("home/odd/state.json", lambda path: path.write_text("[" * 60_000)),
    ("home/odd/state.json", os.mkfifo),
])  # fmt: skip
def test_files_of_one_run_end_no_metrics_of_others(tmp_path: Path, file: str, make: Callable[[Path], object]):
    root = runs_of(tmp_path, "good", "odd")
    place = tmp_path / "etc/rackwright/registry"
    place.mkdir(parents=True)
    (place / "tls.crt").write_bytes((ROOT / "stacks/hospital/certificates/host.pem").read_bytes())
    (tmp_path / "home/odd/state.json").write_text("{}")
    before = [line for line in service_metrics.metrics(root).splitlines() if "odd" not in line]
    replaced(tmp_path / file, make)
    after = [line for line in service_metrics.metrics(root).splitlines() if "odd" not in line]

    assert after == before
    assert len([line for line in after if 'run="good"' in line]) == 8
    assert len([line for line in after if line.startswith("rackwright_certificate_end")]) == 1


ODD: list[Any] = [{"unknown": "x"}, "x", [], ["x"], {}, {"a": "x"}, None, True, 10**400, float("nan"), -1e308]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("key", ["outcome", "steps", "ranks", "checkpoint", "has_checkpoints", "every_steps", ""])
def test_no_value_of_one_run_ends_the_samples_of_others(key: str, value: Any):
    ranks = {"metrics.jsonl": {"step": 1, "loss": 1.0, "time": 1.0}}
    good = {"outcome": None, "steps": 5, "ranks": ranks, "checkpoint": 2, "has_checkpoints": True, "every_steps": 1}
    odd = {**good, key: value} if key else value
    rank = {**good, "ranks": {"metrics.jsonl": value}}
    wrong_step = {**good, "ranks": {"metrics.jsonl": {"step": value, "loss": value, "time": 1}}}
    facts = {"odd": odd, "rank": rank, "step": wrong_step, "good": good}
    found = [*service_metrics.run_samples(facts)]

    assert len([sample for sample in found if sample[1] == {"run": "good"}]) == 8
    assert to_text(found)


def test_all_parts_of_the_answer_end_before_prometheus_stops_to_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    limits = []

    class Recorded(isolate.Isolation):
        def __init__(self, readers: Any, seconds: float, *more: Any) -> None:
            limits.append(seconds)
            super().__init__(readers, seconds, *more)

    monkeypatch.setattr(service_metrics, "Isolation", Recorded)
    service_metrics.metrics(runs_of(tmp_path, "good"))
    config = (ROOT / "roles/prometheus/templates/etc/rackwright/prometheus/prometheus.yml.j2").read_text()

    assert limits == [service_metrics.SECONDS] * 3
    assert f"scrape_seconds, {service_metrics.SECONDS + 2}] | min" in config


def test_the_end_of_each_certificate_is_read(tmp_path: Path):
    place = tmp_path / "etc/rackwright/registry"
    place.mkdir(parents=True)
    (place / "tls.crt").write_bytes((ROOT / "stacks/hospital/certificates/host.pem").read_bytes())
    (place / "other.crt").write_text("no certificate")
    (tmp_path / "etc/kubernetes/pki/etcd").mkdir(parents=True)
    (tmp_path / "etc/kubernetes/pki/etcd/odd.crt").write_text("no certificate")
    facts = service_metrics.certificates(str(tmp_path))
    [(name, labels, end)] = service_metrics.certificate_samples(facts)

    assert facts.keys() == {"/etc/rackwright/registry/tls.crt", "/etc/kubernetes/pki/etcd/odd.crt"}
    assert (name, labels) == (
        "rackwright_certificate_end_timestamp_seconds",
        {"file": "/etc/rackwright/registry/tls.crt"},
    )
    argv = ["openssl", "x509", "-in", str(place / "tls.crt"), "-noout", "-checkend"]
    now = float(subprocess.run(["date", "+%s"], check=True, capture_output=True, text=True).stdout)
    assert subprocess.run([*argv, str(int(end - now) - 60)], capture_output=True).returncode == 0
    assert subprocess.run([*argv, str(int(end - now) + 60)], capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.0\r\n", 400),
        (b"x" * (1 << 14), 400),
    ],
)  # fmt: skip
def test_the_program_for_hosts_runs_alone_and_answers_one_request(request_text: bytes, status: int, tmp_path: Path):
    program = tmp_path / "program"
    program.write_text(service_metrics_program())
    done = subprocess.run(["/usr/bin/python3", "-I", "-S", str(program)], input=request_text, capture_output=True)

    assert re.match(rb"HTTP/1\.0 (\d+) ", done.stdout)[1] == str(status).encode(), done.stderr  # type: ignore[index]
