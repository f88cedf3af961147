"""Programs for hosts, run here: they measure, and report their results."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rackwright.qualify import onhost
from rackwright.qualify.onhost import memory, stream
from rackwright.qualify.run import memory_item

HERE = Path(onhost.__file__).parent
INSIDE = "127.0.0.1"


def start(name: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program as it is started on a host: its text comes on standard input."""
    argv = [sys.executable, "-I", "-S", "-X", "utf8", "-", *map(str, arguments)]
    with (HERE / f"{name}.py").open() as text:
        return subprocess.Popen(argv, stdin=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    report: dict[str, Any] = json.loads(out.splitlines()[-1])
    return report


def test_memory_is_copied_by_every_processor_that_may_be_used():
    report = ended(start("memory", 0.2))

    assert report["processors"] == len(os.sched_getaffinity(0))
    assert report["bytes_per_second"] > 0
    assert report["buffer_bytes"] >= 4 * report["cache_bytes"] or report["buffer_bytes"] * 5 > memory.available_bytes()


def test_a_cache_that_several_share_counts_once(tmp_path, monkeypatch):
    for cpu, shared in ((0, "0-1"), (1, "0-1"), (2, "2-3")):
        for index, size in ((0, "32K"), (3, "16M")):
            place = tmp_path / f"cpu{cpu}/cache/index{index}"
            place.mkdir(parents=True)
            (place / "size").write_text(f"{size}\n")
            (place / "shared_cpu_list").write_text(f"{shared}\n")
    monkeypatch.setattr(memory, "CPUS", tmp_path)

    assert memory.cache_bytes([0, 1]) == 16 << 20
    assert memory.cache_bytes([0, 1, 2]) == 32 << 20
    assert memory.cache_bytes([7]) == 0


def test_what_was_copied_is_reported_with_what_it_was_copied():
    item = memory_item(
        {"bytes_per_second": 21.5e9, "processors": 2, "buffer_bytes": 128 << 20, "cache_bytes": 32 << 20}
    )

    assert (item.state, item.figures[0].value) == ("measured", 21.5)
    assert item.details == "2 processors, 128 MiB of buffers, 32 MiB of cache"


@pytest.fixture
def receiver():
    process = start("stream", "receive", INSIDE, INSIDE, 2)
    yield process
    process.kill()
    process.communicate()


def port(process: subprocess.Popen[str]) -> int:
    assert process.stdout
    return int(json.loads(process.stdout.readline())["port"])


def test_as_much_comes_as_went_and_the_interface_counted_it(receiver):
    sent = ended(start("stream", "send", INSIDE, INSIDE, port(receiver), 2, 0.2))
    received = ended(receiver)

    assert sent["bytes"] == received["bytes"] > 0
    assert sent["interfaces"]["lo"] >= sent["bytes"]
    assert received["interfaces"]["lo"] >= received["bytes"]


def test_each_connection_sends_at_least_one_chunk(receiver):
    """
    On a busy host all the time may be over before the first connection starts to send.
    """
    sent = ended(start("stream", "send", INSIDE, INSIDE, port(receiver), 2, 0))

    assert sent["bytes"] == ended(receiver)["bytes"] == 2 * stream.CHUNK_BYTES


def test_an_unknown_worker_is_refused_and_nothing_of_it_counts(receiver):
    number = port(receiver)
    with socket.create_connection((INSIDE, number), source_address=("127.0.0.2", 0)) as stranger:
        assert stranger.recv(1) == b""

    sent = ended(start("stream", "send", INSIDE, INSIDE, number, 2, 0.2))

    assert ended(receiver)["bytes"] == sent["bytes"]


def test_a_stream_that_is_cut_off_is_no_result():
    with socket.create_server((INSIDE, 0)) as listener:
        sender = start("stream", "send", INSIDE, INSIDE, listener.getsockname()[1], 2, 30)
        for _ in range(2):
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()  # with more unread: the sender gets an error

    _, err = sender.communicate()
    assert sender.returncode != 0
    assert "the stream was interrupted" in err


def test_an_address_that_is_not_there_is_reported_without_a_traceback():
    receiver = start("stream", "receive", "203.0.113.99", INSIDE, 2)

    _, err = receiver.communicate()
    assert (receiver.returncode, err) == (
        1,
        f"receive 203.0.113.99 {INSIDE}: [Errno 99] Cannot assign requested address\n",
    )


def test_only_what_moved_since_is_reported(tmp_path, monkeypatch):
    def count(name: str, number: int) -> None:
        (tmp_path / name / "statistics").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "statistics/rx_bytes").write_text(f"{number}\n")

    monkeypatch.setattr(stream, "INTERFACES", tmp_path)
    count("fabric0", 1000)
    count("mgmt0", 7)
    (tmp_path / "bonding_masters").write_text("bond0\n")  # a file beside them, as where there are bonds
    before = stream.read_counters("rx_bytes")
    count("fabric0", 1500)

    assert stream.counter_increase(before, "rx_bytes") == {"fabric0": 500}
