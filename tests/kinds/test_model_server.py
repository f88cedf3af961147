"""A server on its hosts: what puts it there, what lets it serve another model, what forbids that, and what goes."""

import copy
import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from rackwright.core.contract import Command, Put, Send, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server.files import files, release_of
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.schema.server import Tls
from tests.support.model_server_spec import (
    CANARY,
    KIND,
    OTHER,
    REPOSITORY,
    SPEC,
    VERSION,
    WATCHED,
    bare,
    differences,
    served,
    texts,
)
from tests.support.recorded_hosts import SECRETS
from tests.support.specs import changed

SWITCH = f"serve version {VERSION} (release {release_of(SPEC, REPOSITORY)}), and wait until it is ready"


def planned(raw: dict[str, Any], repository=REPOSITORY, **changes: Any):
    spec = changed(SPEC, **changes)
    return KIND.plan(spec, differences(raw, spec, repository), Facts(raw), repository)


def test_what_is_served_as_declared_is_left_alone() -> None:
    assert differences(served()) == ()
    assert planned(served()).steps == ()


@pytest.mark.parametrize("path", [f"{SPEC.etc}/keys.json", f"/etc/systemd/system/{SPEC.unit}"])
def test_a_server_that_is_older_than_its_keys_or_its_unit_starts_again(path: str) -> None:
    """
    A file that was changed and put back holds, and the server goes on with what it read; a reload reads adapters alone.
    """
    raw = served()
    raw["changed_files"][path] = raw["loads"][SPEC.unit]["started_ns"] + 1
    raw["loads"][SPEC.unit]["loaded_ns"] += 2

    [found] = differences(raw)

    assert (found.thing, found.actual) == (f"read:{SPEC.unit}:{path}", "earlier")
    assert texts(planned(raw)) == [SWITCH, "note in the owner file: ready"]


def test_files_that_no_release_uses_are_removed_while_the_server_runs() -> None:
    raw = served()
    raw["servers"]["digits"] |= {"others": ["models/x", "releases/0/queue.py"], "has_state": False}

    assert [item.name for item in differences(raw)] == ["others", "state"]
    assert texts(planned(raw)) == [
        f"remove the files that no release uses: {SPEC.lib}/models/x, {SPEC.lib}/releases/0/queue.py",
        f"write {SPEC.lib}/state.json, without a previous release",
        "note in the owner file: ready",
    ]


def test_what_is_not_declared_beside_the_files_of_a_server_is_removed_while_it_runs() -> None:
    """
    A file or a directory beside the declared ones was in no audit.
    """
    raw = served()
    raw["files"][f"{SPEC.etc}/tls.key"] = raw["files"][f"{SPEC.etc}/keys.json"]
    raw["directories"][f"{SPEC.etc}/extra"] = raw["directories"][SPEC.etc]
    raw["files"][f"{SPEC.etc}/extra/x.json"] = raw["files"][f"{SPEC.etc}/keys.json"]

    assert [item.path for item in differences(raw)] == [f"directory:{SPEC.etc}.names"]
    plan = planned(raw)
    assert texts(plan) == [
        f"remove what is not declared: {SPEC.etc}/extra, {SPEC.etc}/tls.key", "note in the owner file: ready",
    ]  # fmt: skip
    assert isinstance(plan.steps[0], Command)
    assert plan.steps[0].argv == ("rm", "-rf", "--", f"{SPEC.etc}/extra", f"{SPEC.etc}/tls.key")


def test_keys_that_left_the_declaration_leave_the_host() -> None:
    steps = texts(planned(served(), keys={}, anybody=True))

    [removed] = [text for text in steps if text.startswith("remove what")]
    assert removed == f"remove what is not declared: {SPEC.etc}/keys.json, {SPEC.etc}/own_key"
    [switch] = [text for text in steps if text.startswith("serve version")]
    assert steps.index(removed) > steps.index(switch), "the present release reads them until the switch"


def test_rows_that_are_gone_are_sent_again_while_the_server_runs() -> None:
    raw, spec = served(WATCHED), WATCHED
    raw["servers"]["digits"]["canary_rows"] = {}
    found = differences(raw, spec)

    assert [(item.thing, item.name) for item in found] == [("server_files:digits", "rows")]
    plan = KIND.plan(spec, found, Facts(raw), REPOSITORY)
    assert texts(plan) == [f"send the canary's rows, {spec.data}", "note in the owner file: ready"]


def test_a_model_with_another_manifest_is_sent_again() -> None:
    raw = served()
    raw["servers"]["digits"]["manifests"][VERSION] = "0f" * 32

    [found] = differences(raw)
    assert (found.thing, found.name) == (f"model:digits/{VERSION}", "manifest")
    assert f"send digits {VERSION}: model.json" in texts(planned(raw))


def test_the_release_directory_does_not_precede_the_code() -> None:
    [unit] = [file.content for file in files(SPEC, REPOSITORY) if file.path.endswith(f"/{SPEC.unit}")]

    assert isinstance(unit, str)
    assert "PYTHONSAFEPATH=1" in unit


def test_a_new_server_has_everything_before_it_starts() -> None:
    steps = texts(planned(bare()))

    assert steps[0] == "note in the owner file: creating"
    assert steps[-2:] == ["start server-digits.service at boot, too", "note in the owner file: ready"]
    model = [text for text in steps if text.startswith(("clear", "send", "verify"))]
    assert model == [
        f"clear /var/lib/rackwright/servers/digits/models/.{VERSION}.partial",
        f"send digits {VERSION}: model.onnx", f"send digits {VERSION}: model.json", f"verify digits {VERSION}",
    ]  # fmt: skip
    assert max(map(steps.index, model)) < steps.index(SWITCH)
    assert max(number for number, text in enumerate(steps) if text.startswith("write")) < steps.index(model[0])


def test_a_model_of_a_tier_is_copied_and_judged_on_the_host() -> None:
    plan = planned(bare(), source=None, files={}, mount="/srv/warm")
    [copied] = [step for step in plan.steps if isinstance(step, Command) and "workloads.serving.place" in step.argv]

    assert not [step for step in plan.steps if isinstance(step, Send)]
    assert copied.argv[-5:] == (VERSION, "--copy", "/srv/warm/models/digits", "--accuracy-kept", "0.98")


def test_a_model_that_the_host_has_is_not_sent_again() -> None:
    """
    Back to the version before: its release is written, and served.
    """
    steps = texts(planned(served(), version=OTHER, source=None, files={}))

    assert not [text for text in steps if text.startswith(("send", "copy", "verify"))]
    assert [text for text in steps if text.startswith("serve version")]


def test_a_model_that_is_nowhere_is_refused() -> None:
    plan = planned(served(), version="aaaaaaaaaaaa", source=None, files={})

    assert [refusal.problem for refusal in plan.refusals] == [
        "ember has no model of version aaaaaaaaaaaa, and the declaration names no directory with it"
    ]
    assert plan.steps == ()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda raw: raw["servers"]["digits"].update(ready=False), "server:digits.outcome"),
        (lambda raw: raw["servers"]["digits"].update(version=OTHER), "server:digits.version"),
        (lambda raw: raw["servers"]["digits"].update(release="aaaaaaaaaaaa"), "server:digits.release"),
        (lambda raw: raw["servers"]["digits"]["models"].update({VERSION: "cut"}), f"model:digits/{VERSION}.files"),
        (lambda raw: raw["units"][SPEC.unit].update(enabled="disabled"), f"unit:{SPEC.unit}.state"),
        (lambda raw: raw["directories"][SPEC.lib].update(mode="0755"), f"directory:{SPEC.lib}.mode"),
        (lambda raw: raw["directories"][SPEC.lib].update(owner="root:root"), f"directory:{SPEC.lib}.owner"),
        (lambda raw: raw["files"][f"{SPEC.etc}/keys.json"].update(digest="x"), f"file:{SPEC.etc}/keys.json.content"),
    ],
)  # fmt: skip
def test_each_property_differs_by_itself_and_is_mended(change, path: str) -> None:
    raw = served()
    change(raw)
    plan = planned(raw)

    assert [item.path for item in differences(raw)] == [path]
    assert (SWITCH in texts(plan)) == (not path.startswith(("unit:", "directory:")))
    assert ("clear" in {text.split()[0] for text in texts(plan)}) == path.startswith("model:")


def test_what_cannot_be_seen_is_unknown_and_gives_no_step() -> None:
    raw = {**served(), "servers": {"unknown": "no permission"}}
    found = differences(raw)

    assert {item.path for item in found} == {
        *(f"model:digits/{VERSION}.{name}" for name in ("files", "manifest")),
        *(f"server:digits.{name}" for name in ("outcome", "version", "release", "refused")),
        *(f"server_files:digits.{name}" for name in ("others", "state")),
    }  # fmt: skip
    assert all(isinstance(item.actual, UnknownValue) for item in found)
    assert planned(raw).steps == ()


@pytest.mark.parametrize(
    "changes",
    [{"set": {"threads": 2}}, {"port": 8081}, {"version": OTHER}, CANARY, {"environment": "/opt/b"}],
    ids=str,
)
def test_what_runs_otherwise_is_another_release(changes: dict[str, Any]) -> None:
    spec = changed(SPEC, **changes)

    assert release_of(spec, REPOSITORY) != release_of(SPEC, REPOSITORY)
    assert release_of(changed(SPEC, ready_seconds=7), REPOSITORY) == release_of(SPEC, REPOSITORY)


def test_the_rows_of_a_canary_go_along_and_the_release_says_what_they_ask() -> None:
    plan = planned(served(), **CANARY)
    [rows] = [step for step in plan.steps if isinstance(step, Send)]
    written = [step for step in plan.steps if isinstance(step, Put)]
    [release] = [json.loads(step.content) for step in written if step.path.endswith("/release.json")]

    assert rows.path == release["canary"]["data"] == f"{SPEC.lib}/data/efefefefefef.npz"
    assert release["canary"]["accuracy"] == 0.9


def test_hosts_know_digests_of_keys_alone_and_no_key_is_on_a_command_line() -> None:
    plan = planned(bare())
    written = {step.path: step for step in plan.steps if isinstance(step, Put)}
    wanted = {key["name"]: key for key in json.loads(written[f"{SPEC.etc}/keys.json"].content)}
    own = written[f"{SPEC.etc}/own_key"]

    assert wanted["app"]["sha256"] == hashlib.sha256(SECRETS["digits_app"].encode()).hexdigest()
    assert wanted["rackwright"]["sha256"] == hashlib.sha256(own.content.encode()).hexdigest()
    assert (own.mode, own.owner) == (0o600, "root:root")
    words = " ".join(word for step in plan.steps if isinstance(step, Command) for word in step.argv)
    everything = " ".join([words, *texts(plan), *plan.texts.values(), repr(plan)])
    assert not [secret for secret in (*SECRETS.values(), own.content) if secret in everything]


def test_quotas_of_a_key_are_on_the_host_and_the_hosts_own_key_has_none() -> None:
    spec = changed(SPEC, quotas={"app": {"tokens_per_day": 1000}})
    [content] = [file.content for file in files(spec, REPOSITORY) if file.path.endswith("/keys.json")]
    found = {each["name"]: each for each in json.loads(str(content))}

    assert (found["app"]["tokens_per_day"], "requests_per_minute" in found["app"]) == (1000, False)
    assert found["rackwright"].keys() == {"name", "sha256", "scopes"}


def test_the_use_of_quotas_is_in_a_directory_of_the_account_alone() -> None:
    def texts_of(spec: ServerSpec) -> tuple[str, dict[str, Any]]:
        content = {file.path: str(file.content) for file in files(spec, REPOSITORY)}
        [settings] = [json.loads(text) for path, text in content.items() if path.endswith("/settings.json")]
        return content[f"/etc/systemd/system/{SPEC.unit}"], settings

    unit, settings = texts_of(changed(SPEC, quotas={"app": {"tokens_per_day": 1000}}))
    assert "StateDirectory=rackwright-servers/digits\nStateDirectoryMode=0700\n" in unit
    assert settings["quota_counts"] == "/var/lib/rackwright-servers/digits/quotas.sqlite3"

    unit, settings = texts_of(SPEC)
    assert "StateDirectory" not in unit and "quota_counts" not in settings


def test_each_host_has_a_key_of_its_own() -> None:
    def own(spec: ServerSpec) -> object:
        return next(file.content for file in files(spec, REPOSITORY) if file.path.endswith("/own_key"))

    specs = [SPEC, *(SPEC.model_copy(update={key: "other"}) for key in ("host", "name", "fleet"))]
    assert len({own(spec) for spec in specs}) == len(specs)


def test_without_its_secrets_a_server_has_no_keys_and_no_steps() -> None:
    repository = replace(REPOSITORY, secrets={})
    sealed = {
        claim.thing for claim in KIND.claims(SPEC, repository) if isinstance(claim.want.get("content"), UnknownValue)
    }
    plan = planned(bare(), repository)

    assert sealed == {f"file:{SPEC.etc}/keys.json", f"file:{SPEC.etc}/own_key"}
    assert plan.refusals
    assert plan.steps == ()


def test_a_key_that_could_be_guessed_is_refused() -> None:
    plan = planned(bare(), replace(REPOSITORY, secrets={**SECRETS, "digits_app": "eight888"}))

    assert [refusal.problem for refusal in plan.refusals] == ["the secret digits_app is a short key"]


def test_tls_is_a_matter_of_two_files_and_the_settings() -> None:
    secrets = {**SECRETS, "crt": "a certificate", "tls": "a private key"}
    tls = Tls(certificate={"secret": "crt"}, key={"secret": "tls"})
    plan = planned(bare(), replace(REPOSITORY, secrets=secrets), tls=tls)
    written = {step.path: step for step in plan.steps if isinstance(step, Put)}
    [settings] = [json.loads(step.content) for path, step in written.items() if path.endswith("/settings.json")]

    assert written[f"{SPEC.etc}/tls.key"].content == "a private key\n"
    assert (written[f"{SPEC.etc}/tls.key"].mode, written[f"{SPEC.etc}/tls.key"].owner) == (0o640, "root:server-digits")
    assert (settings["tls_certificate"], settings["tls_key"]) == (f"{SPEC.etc}/tls.crt", f"{SPEC.etc}/tls.key")


def test_another_fleets_server_is_refused() -> None:
    raw = served()
    raw["owners"][SPEC.owner]["fleet"] = "another"

    assert [refusal.expected for refusal in planned(raw).refusals] == ["one owner for each model server on a host"]


def test_nothing_is_written_where_its_link_is_not_up() -> None:
    raw = bare()
    raw["links"] = [{**link, "up": False} if link["name"] == "fabric0" else link for link in raw["links"]]
    plan = planned(raw)

    assert [refusal.problem for refusal in plan.refusals] == ["the link does not exist or is down"]
    assert plan.steps == ()


def test_what_goes_is_what_was_put_there() -> None:
    plan = KIND.removal(SPEC, Facts(served()), REPOSITORY, True)
    [removing] = [step.argv for step in plan.steps if isinstance(step, Command) and "rm -rf" in " ".join(step.argv)]

    assert plan.steps[0].argv == ("systemctl", "disable", "--now", "server-digits.service")
    assert removing[-4:] == ("server-digits", SPEC.etc, SPEC.lib, "/var/lib/rackwright-servers/digits")
    assert plan.notes == ("/project/models/digits stays: the source of the model",)
    assert KIND.removal(SPEC, Facts(bare()), REPOSITORY, True).steps == ()


def test_the_report_says_what_is_served_and_how_fast() -> None:
    report = KIND.report(SPEC, Facts(served()))

    assert (report["outcome"], report["version"], report["previous"], report["p99_ms"]) == (
        "ready",
        VERSION,
        OTHER,
        5.0,
    )


def test_figures_that_are_not_known_hide_nothing_else() -> None:
    raw = copy.deepcopy(served())
    raw["servers"]["digits"]["figures"] = {"unknown": "it answers 401"}
    report = KIND.report(SPEC, Facts(raw))

    assert report["version"] == VERSION
    assert "it answers 401" in report["figures"]


def test_every_service_has_a_limit_on_its_memory() -> None:
    units = [file.content for file in files(WATCHED, REPOSITORY) if file.path.endswith(".service")]

    assert len(units) == 2
    for unit in units:
        assert re.search(r"^MemoryMax=\d+%$", str(unit), re.MULTILINE)
