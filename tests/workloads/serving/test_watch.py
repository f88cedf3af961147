"""A server that is watched: what is noted of it, when the release before serves again, and when it does not."""

import fcntl
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.diagnostics import sentences
from tests.workloads.serving.switched import Host
from workloads.serving import watch
from workloads.serving.switch import NotServing, SwitchBusy

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
FORMER = f"releases/{OLD}/release.json"
ASKED = {"every_seconds": 900, "change": 0.02, "roll_back": True}
OTHER_GROUP = 65534 if os.geteuid() == 0 else os.getegid()
WATCHED: dict[str, Any] = {"watch": ASKED, "watch_seconds": 60}


@pytest.fixture
def served(host: Host) -> Host:
    """Return a host that serves a second release, after a first."""
    for name in (OLD, NEW):
        host.release(name, "right", 0.75)
        host.switch(name, **WATCHED)
    return host


def look(host: Host, **more: Any) -> int:
    """Look as the host's timer does."""
    path = host.lib / "server.json"
    path.write_text(host.plan(**{**WATCHED, **more}).model_dump_json())
    return watch.main([str(path)])


def starts(host: Host) -> int:
    return host.verbs.count("start")


@contextmanager
def taken(host: Host) -> Iterator[None]:
    """Hold the lock as another process does."""
    with (host.lib / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_what_a_release_had_right_when_it_began_is_the_first_look(served: Host) -> None:
    found = served.noted.found

    assert found is not None
    assert (found.release, found.accuracy, found.rows) == (NEW, 1.0, "efefefefefef.npz")
    assert (served.noted.least, served.noted.every_seconds, served.noted.change) == (0.75, 900, 0.02)


def test_the_server_may_read_what_is_noted_and_no_other_account_may(served: Host) -> None:
    os.chown(served.lib, -1, OTHER_GROUP)
    before = os.umask(0o077)
    try:
        look(served)
    finally:
        os.umask(before)

    noted = (served.lib / "watch.json").stat()
    assert (noted.st_mode & 0o777, noted.st_gid) == (0o640, OTHER_GROUP)


def test_what_is_right_goes_on(served: Host, capsys: pytest.CaptureFixture[str]) -> None:
    before = starts(served)

    assert look(served) == 0
    assert (served.current, starts(served)) == (NEW, before)
    assert capsys.readouterr().out == "the canary is 100.0000% correct, at least 75.00% is required\n"


def test_the_release_before_serves_again_where_too_few_are_right(
    served: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    served.behave(NEW, "half")

    assert look(served) == 1
    assert served.current == OLD
    why = "watched: the canary is 50.0000% correct, at least 75.00% is required"
    version = json.loads((served.lib / "releases" / NEW / "release.json").read_text())["version"]
    assert served.state == {"previous": None, "refused": {"release": NEW, "version": version, "why": why}}
    assert f"release {OLD} serves again" in capsys.readouterr().out
    assert served.noted.found is not None
    assert (served.noted.found.release, served.noted.found.accuracy) == (OLD, 1.0)
    assert served.names("releases") == {OLD, NEW}  # the watch runs by the code of the declared one

    with pytest.raises(NotServing, match=f"the canary is 50.*the previous release {OLD} serves again"):
        served.switch(NEW, **WATCHED)


def test_it_never_goes_back_and_forth(served: Host, capsys: pytest.CaptureFixture[str]) -> None:
    served.behave(NEW, "half")
    look(served)
    served.behave(OLD, "half")
    before = starts(served)

    assert [look(served), look(served)] == [1, 1]
    assert (served.current, starts(served)) == (OLD, before)
    assert "no previous release is known to be right; the current release keeps serving" in capsys.readouterr().out


def test_where_the_one_before_is_no_better_the_present_one_goes_on(
    served: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    That is tried once, and no client waits for it a second time.
    """
    for name in (OLD, NEW):
        served.behave(name, "half")

    assert look(served) == 4
    assert (served.current, served.state["refused"]["release"], served.state["previous"]) == (NEW, OLD, OLD)
    assert f"the previous release {NEW} serves again" in capsys.readouterr().err
    before = starts(served)
    assert look(served) == 1
    assert (served.current, starts(served)) == (NEW, before)
    assert f"the previous release {OLD} was refused on this host" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda host, former: (host.lib / "models" / former["version"] / "model.json").unlink(),
            "is no longer on this host",
        ),
        (
            lambda host, former: (host.lib / FORMER).write_text(json.dumps({**former, "canary": None})),
            "has no canary, so its accuracy is unknown",
        ),
    ],
    ids=["its model was removed", "it has no canary"],
)
def test_what_cannot_be_known_to_be_right_is_not_gone_back_to(
    served: Host, change: Any, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(served, json.loads((served.lib / FORMER).read_text()))
    served.behave(NEW, "wrong")
    before = starts(served)

    assert look(served) == 1
    assert (served.current, starts(served)) == (NEW, before)
    assert expected in capsys.readouterr().out


def test_without_a_roll_back_it_is_reported_and_no_more(served: Host, capsys: pytest.CaptureFixture[str]) -> None:
    served.behave(NEW, "wrong")

    assert look(served, watch={**ASKED, "roll_back": False}) == 1
    assert served.current == NEW
    assert "roll_back is not declared; the current release keeps serving" in capsys.readouterr().out
    assert served.noted.is_low


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda host: host.behave(NEW, "refuses"), "does not answer the canary's rows: 400"),
        (lambda host: (host.lib / "data" / "efefefefefef.npz").unlink(), "No such file"),
        (lambda host: (host.lib / "data" / "efefefefefef.npz").write_bytes(b"PK\x03\x04 and no more"), "zip file"),
        (lambda host: subprocess.run(["systemctl", "stop", "server-digits.service"]), "is not ready"),
        (
            lambda host: (host.lib / "releases" / NEW / "settings.json").write_text("{"),
            "settings.json: the settings of the release cannot be read",
        ),
    ],
    ids=["it refuses", "no rows", "rows that are none", "it does not run", "damaged settings"],
)
def test_what_cannot_be_judged_is_no_accuracy_and_nothing_follows(
    served: Host, change: Any, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, before = served.noted.found, starts(served)
    change(served)

    assert look(served) == 3
    assert served.noted.found == found
    assert why in str(served.noted.why_not)
    assert (served.current, starts(served), served.state["refused"]) == (NEW, before, None)
    assert why in capsys.readouterr().out


def test_what_moved_is_reported(served: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """
    More than is asked for is still right, so that it goes on.
    """
    noted = served.noted
    assert noted.found is not None
    earlier = noted.found.model_copy(update={"at": noted.found.at - 7200, "accuracy": 0.97})
    (served.lib / "watch.json").write_text(noted.model_copy(update={"readings": (earlier,)}).model_dump_json())

    assert look(served) == 1
    assert "it changed by +3.0000% within 2.0 h, more than 2.00%: it was 97.0000%" in capsys.readouterr().out
    assert served.current == NEW


def test_no_probe_runs_while_a_host_changes(served: Host, capsys: pytest.CaptureFixture[str]) -> None:
    noted = served.noted
    served.behave(NEW, "wrong")
    with taken(served):
        assert look(served) == 0

    assert served.noted == noted
    assert "another process switches the release" in capsys.readouterr().out


def test_a_release_waits_for_a_look_to_end_and_no_longer(served: Host) -> None:
    with taken(served), pytest.raises(SwitchBusy, match="another process has held the lock for 0 s"):
        served.switch(OLD)
    with taken(served):
        waiting = threading.Thread(target=served.switch, args=[OLD], kwargs=WATCHED)
        waiting.start()
    waiting.join(60)

    assert served.current == OLD


def test_one_that_is_watched_no_more_leaves_no_accuracy_behind(served: Host) -> None:
    served.switch(OLD)

    assert not (served.lib / "watch.json").exists()


def test_a_plan_that_is_none_is_reported_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "server.json").write_text("{}")

    assert watch.main([str(tmp_path / "server.json")]) == 2
    assert "Run `rackwright up` again." in sentences(capsys.readouterr().err)
