"""A host's server serves another release, or the one before again. Servers answer for real; systemd is a stand-in."""

import pytest

from tests.support.own_clock import own_clock
from tests.workloads.serving.switched import Host
from workloads.serving import switch
from workloads.serving.switch import NotServing


def test_a_release_serves_when_it_says_so(host: Host) -> None:
    version = host.release("aaaaaaaaaaaa", "right", 1.0)
    host.switch("aaaaaaaaaaaa")

    assert host.current == "aaaaaaaaaaaa"
    assert host.messages == [
        f"version {version} is ready",
        "the canary is 100.0000% correct, at least 100.00% is required",
    ]
    assert host.state == {"previous": None, "refused": None}
    assert (host.lib / "releases/aaaaaaaaaaaa/model").resolve() == host.lib / "models" / version


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("wrong", "the canary is 0.0000% correct"),
        ("fails", "is failed, and not ready"),
        ("refuses", "does not answer the canary's rows: 400"),
    ],
)
def test_what_ran_before_serves_again_where_the_new_one_does_not(host: Host, behaviour: str, why: str) -> None:
    """
    The reason is reported with the last lines of the log, and recorded for later.
    """
    host.release("aaaaaaaaaaaa", "right", 1.0)
    host.switch("aaaaaaaaaaaa")
    refused = host.release("bbbbbbbbbbbb", behaviour, 1.0)

    with pytest.raises(NotServing, match=f"{why}.*the previous release aaaaaaaaaaaa serves again"):
        host.switch("bbbbbbbbbbbb")

    assert host.current == "aaaaaaaaaaaa"
    assert "the last line of its log" in host.messages
    assert host.state["refused"]["version"] == refused
    assert why in host.state["refused"]["why"]


def test_a_first_release_that_does_not_serve_leaves_nothing_running(host: Host) -> None:
    host.release("aaaaaaaaaaaa", "fails")

    with pytest.raises(NotServing, match="there is no previous release, and nothing runs now"):
        host.switch("aaaaaaaaaaaa")

    assert host.current is None
    assert host.verbs[-1] == "stop"


def test_only_the_release_before_is_kept_and_nothing_that_bears_another_name_goes(host: Host) -> None:
    versions = []
    for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"):
        versions.append(host.release(name, "right"))
        if name == "cccccccccccc":
            (host.lib / "models" / "of-somebody-else").mkdir()
            (host.lib / "models" / ".0123456789ab.partial").mkdir()  # a copy that was broken off
        host.switch(name)

    assert host.names("releases") == {"bbbbbbbbbbbb", "cccccccccccc"}
    assert host.names("models") == {*versions[1:], "of-somebody-else"}
    assert host.names("data") == set()  # none of the two asks them
    assert host.state == {"previous": "bbbbbbbbbbbb", "refused": None}


def test_a_release_that_starts_again_forgets_nothing(host: Host) -> None:
    """
    Another key is such a start: what served before the release is still what it goes back to.
    """
    for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "bbbbbbbbbbbb"):
        if not (host.lib / "releases" / name).exists():
            host.release(name, "right")
        host.switch(name)

    assert host.state["previous"] == "aaaaaaaaaaaa"
    assert host.verbs.count("start") == 3


def test_a_server_that_never_gets_ready_is_abandoned(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 20))
    own_clock(monkeypatch, switch, monotonic=lambda: next(clock))
    version = host.release("aaaaaaaaaaaa", "right")
    (host.lib / "releases/aaaaaaaaaaaa/behaviour").write_text("silent")
    (host.lib / "answering.py").write_text("import time; time.sleep(600)")

    with pytest.raises(NotServing, match=f"not ready within 60 s.*version {version} of the model"):
        host.switch("aaaaaaaaaaaa")


def test_what_answers_while_the_unit_does_not_run_is_not_believed(host: Host) -> None:
    """
    Another process of the account listens on the socket, and says the version that is to serve.
    """
    host.release("aaaaaaaaaaaa", "stopped", 1.0)

    with pytest.raises(NotServing, match="is inactive, and not ready within 1 s"):
        host.switch("aaaaaaaaaaaa", ready_seconds=1)


def test_what_another_account_says_is_not_believed(host: Host) -> None:
    host.release("aaaaaaaaaaaa", "right", 1.0)

    with pytest.raises(NotServing, match="is active, and not ready within 1 s"):
        host.switch("aaaaaaaaaaaa", ready_seconds=1, account="nobody")


def test_a_release_from_before_a_host_could_ask_runs_again(host: Host) -> None:
    """
    Its settings name no socket: its unit runs, and no more can be known.
    """
    host.release("aaaaaaaaaaaa", "before sockets", 1.0)
    (host.lib / "releases/aaaaaaaaaaaa/settings.json").write_text("{}")
    (host.lib / "current").symlink_to("releases/aaaaaaaaaaaa")
    host.release("bbbbbbbbbbbb", "wrong", 1.0)

    with pytest.raises(NotServing, match="the previous release aaaaaaaaaaaa serves again"):
        host.switch("bbbbbbbbbbbb")
    assert (
        "release aaaaaaaaaaaa runs; it has no socket for its host, so whether it is ready is unknown" in host.messages
    )
