"""The hosts of a process: shared connections and probes, and one change at a time."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rackwright.errors import HostUnreachable
from rackwright.hosts import pool, session
from rackwright.hosts.pins import HostKeyRefused
from rackwright.hosts.pool import ChangeCancelled, Hosts
from rackwright.hosts.session import HostBusy
from rackwright.hosts.transport import Connection
from tests.hosts.conftest import RAW
from tests.support.simulated import SimulatedRack

ROOT = Path(__file__).parents[2]


def at_once(*work) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of hosts in the order in which they were connected to."""
    made: list[str] = []

    class Counted(Connection):
        def __init__(self, endpoint, via=None):
            made.append(endpoint.host)
            super().__init__(endpoint, via)

    monkeypatch.setattr(pool, "Connection", Counted)
    return made


def test_all_who_ask_share_one_connection_and_one_probe(hosts, connections):
    answers = []

    at_once(*[lambda: answers.append(hosts.facts("gpu-01"))] * 10)

    assert connections == ["gpu-01"]
    assert len({id(facts) for facts in answers}) == 1


def test_who_is_being_looked_at_is_reported(hosts, monkeypatch):
    during: list[frozenset[str]] = []
    parse = pool.probe.parse
    monkeypatch.setattr(pool.probe, "parse", lambda *given: during.append(hosts.looked_at()) or parse(*given))

    hosts.facts("gpu-01")

    assert (during, hosts.looked_at()) == ([{"gpu-01"}], frozenset())


def test_a_changed_host_is_probed_again(hosts, rack):
    before = hosts.facts("gpu-01")
    rack["gpu-01"].set_facts({**RAW, "taken_at": 2.0})
    cached, fresh = hosts.facts("gpu-01"), hosts.facts("gpu-01", fresh=True)
    rack["gpu-01"].set_facts({**RAW, "taken_at": 3.0})
    hosts.forget_facts("gpu-01")

    assert (before.taken_at, cached.taken_at, fresh.taken_at) == (1.0, 1.0, 2.0)
    assert hosts.facts("gpu-01").taken_at == 3.0


def test_a_probe_that_began_before_a_change_is_not_kept(hosts, rack, monkeypatch):
    probe = Hosts._probe

    def overtaken(self, connection):
        facts = probe(self, connection)
        hosts.forget_facts("gpu-01")
        return facts

    monkeypatch.setattr(Hosts, "_probe", overtaken)
    hosts.facts("gpu-01")
    monkeypatch.setattr(Hosts, "_probe", probe)
    rack["gpu-01"].set_facts({**RAW, "taken_at": 2.0})

    assert hosts.facts("gpu-01").taken_at == 2.0


def test_a_dead_host_is_tried_once_and_the_others_are_not_held_up(hosts, rack, connections):
    rack.switch_off("gpu-01")
    reasons = []

    for _ in range(3):
        with pytest.raises(HostUnreachable, match="Connection refused") as unreachable:
            hosts.facts("gpu-01")
        reasons.append(str(unreachable.value))

    assert hosts.facts("gpu-02").taken_at == 1.0
    assert connections == ["gpu-01", "gpu-02"]
    assert len(set(reasons)) == 1
    assert hosts.unreachable() == {"gpu-01"}


def test_a_host_without_an_address_is_unreachable(hosts):
    with pytest.raises(HostUnreachable, match="^gpu-09: the address of the host is unknown; "):
        hosts.facts("gpu-09")


def test_a_connection_that_drops_during_a_probe_is_made_again_once(rack, connections, monkeypatch):
    monkeypatch.setattr(pool, "JITTER_SECONDS", 0.0)
    for name, times in (("gpu-01", 1), ("gpu-02", 2)):
        directory = rack[name].directory
        die = f"echo >> {directory}/deaths; kill -9 $PPID; sleep 1000"
        (directory / "deaths").touch()
        (directory / "answer").write_text(
            f"[ $(wc -l < {directory}/deaths) = {times} ] && exec {rack[name].probe}; {die}\n"
        )
    hosts = Hosts(rack.endpoints, b"salt")

    assert hosts.facts("gpu-01").taken_at == 1.0
    with pytest.raises(HostUnreachable, match=r"^gpu-02: the connection ended"):
        hosts.facts("gpu-02")
    assert connections == ["gpu-01", "gpu-01", "gpu-02", "gpu-02"]
    hosts.close()


def test_a_dropped_connection_is_made_again(hosts, rack, connections):
    hosts.facts("gpu-01")
    rack.switch_off("gpu-01")
    rack.switch_on("gpu-01")

    assert hosts.facts("gpu-01", fresh=True).taken_at == 1.0
    assert connections == ["gpu-01", "gpu-01"]


def test_a_probe_that_fails_reports_the_output_of_the_host(rack):
    (rack["gpu-01"].directory / "answer").write_text("echo sudo: a password is required >&2; exit 1\n")
    hosts = Hosts(rack.endpoints, b"salt")

    with pytest.raises(
        HostUnreachable, match='python3 failed with status 1, and printed "sudo: a password is required"'
    ):
        hosts.facts("gpu-01")
    hosts.close()


def test_a_bug_of_the_probe_is_named_as_one_with_its_place(rack):
    """The message advised to check sudo and Python, which had worked."""
    lines = (
        "Traceback (most recent call last):",
        '  File "main.py", line 161, in collect',
        "OSError: [Errno 9] Bad file",
    )
    (rack["gpu-01"].directory / "answer").write_text("".join(f"echo '{each}' >&2\n" for each in lines) + "exit 1\n")
    hosts = Hosts(rack.endpoints, b"salt")

    with pytest.raises(HostUnreachable, match="a program of rackwright failed there") as error:
        hosts.facts("gpu-01")
    hosts.close()
    [found] = error.value.diagnostics
    assert found.id == "program-failed"
    assert "Bad file" in found.problem
    assert found.note == 'File "main.py", line 161, in collect'


def test_hosts_behind_one_jump_host_share_its_connection(rack, connections):
    jump = rack.endpoints["shell"]
    hosts = Hosts({name: replace(rack.endpoints[name], jump=jump) for name in ("gpu-01", "gpu-02")}, b"salt")

    at_once(lambda: hosts.facts("gpu-01"), lambda: hosts.facts("gpu-02"))

    assert sorted(connections) == ["gpu-01", "gpu-02", "shell"]
    hosts.close()


def test_a_jump_host_with_a_wrong_key_is_refused_and_both_are_named(rack, tmp_path):
    jump = rack["shell"].endpoint(rack, known_hosts=tmp_path / "none")
    hosts = Hosts({"gpu-01": replace(rack.endpoints["gpu-01"], jump=jump)}, b"salt")

    with pytest.raises(HostKeyRefused, match="^gpu-01 through shell: .* has no key for it"):
        hosts.facts("gpu-01")
    hosts.close()


def test_fewer_slots_than_hosts_are_no_deadlock(rack, connections):
    """A host that waits for its jump host must not hold the slot that the jump host needs."""
    jump = rack.endpoints["shell"]
    endpoints = {name: replace(rack.endpoints[name], jump=jump) for name in ("gpu-01", "gpu-02")}
    hosts = Hosts(endpoints, b"salt", simultaneous=1)

    at_once(*[lambda: hosts.facts("gpu-01"), lambda: hosts.facts("gpu-02")] * 3)

    assert sorted(connections) == ["gpu-01", "gpu-02", "shell"]
    hosts.close()


# --- the lock -------------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from rackwright.hosts.pool import Hosts
from rackwright.schema.ssh import Endpoint, Login
host, address, port, user, key, known_hosts = sys.argv[1:]
login = Login(name="other", user=user, key=key, become=False)
hosts = Hosts({host: Endpoint(host, address, int(port), (login,), Path(known_hosts))}, b"salt")
with hosts.lease(host, host + "/other", print):
    print("held", flush=True)
    sys.stdin.read()
hosts.close()
"""


@pytest.fixture
def holder(rack: SimulatedRack):
    """Another process, which holds the lock of gpu-01 until its stdin is closed."""
    host = rack["gpu-01"]
    arguments = ["gpu-01", host.address, str(host.port), rack.user, str(rack.key), str(rack.known_hosts)]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_held_by_another_process_is_waited_for_and_its_holder_named(hosts, holder):
    messages: list[str] = []

    def say(text: str) -> None:
        messages.append(text)
        holder.stdin.close()

    with hosts.lease("gpu-01", "gpu-01/hot", say):
        pass

    assert len(messages) == 1
    assert messages[0].startswith("waiting for the host's lease, held for gpu-01/other by ")
    assert f", pid {holder.pid}, since 20" in messages[0]


def test_a_lock_is_waited_for_so_long_and_no_longer(hosts, holder, monkeypatch):
    monkeypatch.setattr(session, "PATIENCE_SECONDS", 0.0)

    with pytest.raises(
        HostBusy, match=f"^gpu-01: another run, for gpu-01/other by .*, pid {holder.pid}, since .*, has held its lease"
    ):
        hosts.lease("gpu-01", "gpu-01/hot", print).__enter__()


def test_a_lock_does_not_outlive_a_holder_that_was_killed(hosts, holder):
    """Without a file to remove, without a time to wait for: the kernel of the host frees it."""
    holder.kill()
    holder.wait()

    with hosts.lease("gpu-01", "gpu-01/hot", print):
        assert hosts.session("gpu-01")


def test_other_hosts_are_free_while_one_is_locked(hosts, holder):
    messages: list[str] = []

    with hosts.lease("gpu-02", "gpu-02/hot", messages.append):
        pass

    assert messages == []


def test_threads_of_one_process_take_turns(hosts):
    inside, most = [0], [0]
    messages: list[str] = []

    def change() -> None:
        with hosts.lease("gpu-01", "gpu-01/hot", messages.append):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            hosts.facts("gpu-01")
            inside[0] -= 1

    at_once(*[change] * 3)

    assert most == [1]
    assert set(messages) == {"waiting for another change of this host to end"}


def test_a_lease_after_another_holder_means_a_new_probe(hosts, rack):
    hosts.facts("gpu-01")
    rack["gpu-01"].set_facts({**RAW, "taken_at": 2.0})

    with hosts.lease("gpu-01", "gpu-01/hot", print):
        assert hosts.facts("gpu-01").taken_at == 2.0


def test_a_cancelled_wait_for_a_lock_ends(hosts, holder):
    with pytest.raises(ChangeCancelled, match="^gpu-01/hot: cancelled while waiting for gpu-01; no step was run"):
        hosts.lease("gpu-01", "gpu-01/hot", lambda text: hosts.cancel()).__enter__()


def test_a_lock_is_free_again_after_an_exception_inside(hosts):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), hosts.lease("gpu-01", "gpu-01/hot", pytest.fail):
            raise ZeroDivisionError


def test_gpus_are_read_again_each_time_over_one_connection(hosts, rack, connections):
    before = hosts.gpus("gpu-01")
    rack["gpu-01"].set_facts({**RAW, "taken_at": 2.0})

    assert (before.taken_at, hosts.gpus("gpu-01").taken_at) == (1.0, 2.0)
    assert connections == ["gpu-01"]


def test_an_unreachable_host_is_tried_again_on_request(rack):
    endpoints = {"gpu-01": replace(rack.endpoints["gpu-01"], port=1)}
    hosts = Hosts(endpoints, b"salt")
    with pytest.raises(HostUnreachable):
        hosts.gpus("gpu-01")
    state = next(iter(hosts._states.values()))
    assert state.unreachable

    hosts.try_again()

    assert not hosts.unreachable()
    hosts.close()


def test_the_clock_of_a_host_is_compared_with_that_of_this_computer(rack, hosts):
    rack["gpu-01"].set_facts({**RAW, "finished_at": 0.0})
    assert hosts.facts("gpu-01", fresh=True).clock_offset_seconds < -1e9

    rack["gpu-01"].set_facts({**RAW, "finished_at": 1e10})
    assert hosts.facts("gpu-01", fresh=True).clock_offset_seconds > 1e9
