"""What concerns the plugin rather than a resource: status codes, time, cancelling, configuration, its process."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from rackwright.kinds.table import KINDS
from rackwright.provider.codec import decode, encode
from rackwright.provider.protocol import Provider
from rackwright.provider.resources import CLASSES
from rackwright.provider.server import LOADING, LazyProvider
from tests.support.provider_rig import BOX, RED, failing

LAUNCHER = ["/bin/sh", Path(__file__).parents[2] / "rackwright/toolchain/provider.sh", sys.executable]


@pytest.fixture
def hanging(rig):
    """A rig whose steps wait; they are let go at the end."""
    rig.hosts.hangs = threading.Event()
    yield rig
    rig.hosts.hangs.set()


def test_a_timeout_ends_the_call_and_keeps_what_was_begun(hanging):
    """
    A step that hangs is not waited for, and none is begun after it.
    """
    with failing("DEADLINE_EXCEEDED") as failures:
        hanging.create(RED, timeout=0.2)

    assert "not done after 0.2 s; no further step starts" in failures[0].message
    assert decode(failures[0].kept.properties)["claims"][BOX]["colour"] == {"absent": True}
    hanging.hosts.hangs.set()
    for thread in threading.enumerate():
        if "(attempt)" in thread.name:
            thread.join(60)
    assert hanging.hosts.done == ["h1: note that the box a.b is ours"]


def test_cancel_ends_what_runs(hanging):
    """
    The engine waits for its calls to return before it ends, so they return at once.
    """
    outcome: list[str] = []

    def create() -> None:
        with failing("CANCELLED") as failures:
            hanging.create(RED)
        outcome.append(failures[0].kept.id)

    thread = threading.Thread(target=create)
    thread.start()
    assert hanging.hosts.at_step.wait(60)
    hanging.stub.Cancel(empty_pb2.Empty())
    thread.join(60)

    assert outcome == ["h1/a.b"]
    assert hanging.hosts.is_cancelled


def test_after_a_cancel_the_connections_are_made_again(rig):
    """
    An engine that attaches to a running provider cancels at the end of one phase and comes back for the next.
    """
    state = rig.create(RED)
    rig.stub.Cancel(empty_pb2.Empty())

    rig.read(state)

    assert rig.opened == ["lab", "lab"]


def test_the_site_is_opened_once(rig):
    rig.read(rig.create(RED))

    assert rig.opened == ["lab"]


def test_a_defect_of_ours_does_not_look_like_a_corrupt_state(rig, monkeypatch, capfd):
    """
    UNKNOWN and INTERNAL make the engine doubt its state; the traceback goes where messages go.
    """
    state = rig.create(RED)
    monkeypatch.setattr("tests.support.toy_kind.Box.observe", lambda *_: dict[str, str]()["colour"])

    with failing("ABORTED") as failures:
        rig.read(state)

    assert "rackwright itself failed: KeyError" in failures[0].message
    assert "Traceback" in capfd.readouterr().err


def test_many_resources_are_read_at_once(rig):
    """
    Reads wait for hosts, not for each other.
    """
    state = rig.create(RED)
    count = 64
    together = threading.Barrier(count, timeout=60)
    rig.hosts.facts = lambda host, fresh=False, facts=rig.hosts.facts: (together.wait(), facts(host))[1]

    threads = [threading.Thread(target=rig.read, args=[state]) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert not together.broken


def test_a_changed_configuration_never_replaces_the_provider(rig):
    """
    A replaced provider would replace every resource.
    """
    answer = rig.stub.DiffConfig(
        provider_pb2.DiffRequest(olds=encode({"target": "rack"}), news=encode({"target": "twin:lab"}))
    )

    assert answer.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert not answer.replaces


def test_every_kind_has_its_class():
    """
    A class has the name, the words and the type token of its kind.
    """
    names = {token: resource.__name__ for token, resource in CLASSES.items()}

    assert names.keys() == KINDS.keys()
    assert names["rackwright:workload:TrainingSeat"] == "TrainingWorkerResource"
    assert {token: resource.__doc__ for token, resource in CLASSES.items()} == {
        token: type(kind).__doc__ for token, kind in KINDS.items()
    }


def test_the_plugin_starts_without_the_kinds_and_the_schema():
    """The engine starts two plugins for a stack with resources, and one of them only answers the handshake."""
    call = "import rackwright.provider.__main__, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)

    heavy = {"pydantic", "rackwright.kinds", "rackwright.schema", "rackwright.facts", "rackwright.stack"}
    assert set(done.stdout.split()) & heavy == set()


def test_the_provider_is_loaded_once_by_the_first_call_that_needs_it(rig):
    loaded: list[str] = []

    def load(engine_address: str) -> Provider:
        loaded.append(engine_address)
        return rig.provider

    lazy = LazyProvider(load, "")
    lazy.Handshake(provider_pb2.ProviderHandshakeRequest(engine_address="127.0.0.1:1"), None)
    assert lazy.GetPluginInfo(empty_pb2.Empty(), None).version
    lazy.Cancel(empty_pb2.Empty(), None)
    assert loaded == []

    request = provider_pb2.CheckRequest(urn=rig.urn(RED), news=encode(RED))
    answers = [lazy.CheckConfig(request, None).inputs, lazy.CheckConfig(request, None).inputs]
    assert (answers, loaded) == ([encode(RED)] * 2, ["127.0.0.1:1"])


def test_every_call_of_the_provider_is_passed_on():
    assert {name for name in vars(Provider) if name[0].isupper()} == {*LOADING, "Handshake", "Cancel"}


@pytest.fixture
def process(tmp_path):
    """The plugin as Pulumi starts it, below a parent that can be killed."""
    code = (
        "import subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True);"
        "print(child.pid, child.stdout.readline(), end='', flush=True); print(child.stdout.read(), end='', flush=True)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *LAUNCHER, "127.0.0.1:1"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    pid, port = parent.stdout.readline().split()
    yield parent, int(pid), int(port)
    parent.kill()
    parent.wait()


def test_the_plugin_prints_its_port_and_answers(process):
    parent, pid, port = process
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        info = provider_pb2_grpc.ResourceProviderStub(channel).GetPluginInfo(empty_pb2.Empty())
    assert info.version

    os.kill(pid, signal.SIGINT)

    assert parent.stdout.read() == ""  # nothing but the port was ever printed
    assert parent.wait(60) == 0


def test_the_plugin_dies_with_its_parent(process):
    """
    A killed pulumi leaves its plugins behind; ours must not go on changing hosts.
    """
    parent, pid, _ = process
    watched = os.pidfd_open(pid)

    parent.kill()

    assert select.select([watched], [], [], 60)[0]
    os.close(watched)
