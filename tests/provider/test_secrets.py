"""Secrets over gRPC: they come by Configure, change exactly what depends on them, and are printed nowhere."""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from rackwright.core.contract import PlayRole
from rackwright.core.repository import Repository, RoleSource
from rackwright.hosts.pool import Hosts
from rackwright.hosts.rollout import RolloutGate
from rackwright.hosts.session import NotDone
from rackwright.hosts.steps import execute
from rackwright.kinds.role import RoleKind
from rackwright.provider.codec import encode
from rackwright.provider.site import Site
from rackwright.schema.rollout import Rollout
from tests.support.diagnostics import sentences
from tests.support.operations_log import Entries, in_memory
from tests.support.provider_rig import Rig, failing, rig
from tests.support.role_spec import SPEC
from tests.support.simulated import SimulatedRack

HOST = "alpha"
OLD, NEW = "0ld-S3cret-of-toy", "N3w-S3cret-of-toy"
CLAIMS = ({"file": "/etc/key", "mode": "0600"}, {"file": "/etc/plain"})
TEMPLATES = {"toy/etc/key.j2": "key={{ toy_key }}\n", "toy/etc/plain.j2": "plain\n"}
SOURCE = RoleSource("toy", options={"toy_key": {"type": "str"}}, by_os={"debian-12": {}}, claims=CLAIMS)
REPOSITORY = Repository(TEMPLATES, {"toy": SOURCE}, b"salt")
INPUTS = SPEC.model_copy(update={"variables": {"key": {"secret": "toy_word"}}}).model_dump(mode="json")
CONTENT = 'claims["file:/etc/key"].content'


def host_with(key: str) -> dict[str, Any]:
    """Return facts of a host where all is as promised with *key*."""

    def file(text: str, mode: str) -> dict[str, Any]:
        return {"digest": REPOSITORY.digest(text), "mode": mode, "owner": "root:root", "mtime_ns": 1}

    wrote = ["/etc/key", "/etc/plain"]
    return {
        "covers": {"files": ["/etc", "/var/lib/rackwright"], "sysctls_left_out": []},
        "identity": {"serial": "S1"},
        "files": {"/etc/key": file(f"key={key}\n", "0600"), "/etc/plain": file("plain\n", "0644")},
        "directories": {"/etc": {}},
        "owners": {"role-toy": {"id": f"{HOST}/toy", "fleet": "lab", "phase": "ready", "wrote": wrote}},
    }


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({HOST: host_with(OLD)}) as rack:
        rack[HOST].set_texts({"/etc/key": f"key={OLD}\n"})
        yield rack


@pytest.fixture
def entries() -> Entries:
    """Entries of the operations log."""
    return []


@pytest.fixture
def made(rack: SimulatedRack, entries: Entries) -> Iterator[Callable[..., Rig]]:
    """Return a function that makes a provider, configured with *secrets*, whose roles are played by *play*."""
    opened: list[Any] = []

    def make(play: Callable[..., None] | None = None, **secrets: str) -> Rig:
        def play_well(step: PlayRole, host: str, say: Callable[[str], None]) -> None:
            rack[host].set_facts(host_with(step.variables["toy_key"]))

        def open_site(stack: str, values: Mapping[str, str]) -> Site:
            hosts = Hosts(rack.endpoints, REPOSITORY.salt)
            opened.append(hosts)
            rollout_gate = RolloutGate(Rollout(), lambda: False, window_seconds=0.1)
            return Site(
                replace(REPOSITORY, secrets=values),
                hosts,
                partial(execute, play=play or play_well),
                rollout_gate,
                in_memory(entries),
            )

        provider = rig({RoleKind.token: RoleKind()}, open_site)
        opened.append(provider)
        entered = provider.__enter__()
        entered.token = RoleKind.token
        entered.configure(**secrets)
        return entered

    yield make
    for each in opened:
        each.close() if isinstance(each, Hosts) else each.__exit__(None, None, None)


def all_messages(made: Rig) -> str:
    return "\n".join(message.text for message in made.listener.messages)


def test_a_changed_secret_changes_exactly_its_claim_and_is_mended(made):
    """
    Created with the old one; a provider with the new one finds the content of that file otherwise, and nothing else.
    """
    state = made(toy_word=OLD).create(INPUTS)
    later = made(toy_word=NEW)

    assert made(toy_word=OLD).diff(state, INPUTS) == {}
    assert later.diff(later.read(state), INPUTS) == {CONTENT: "UPDATE"}
    after = later.update(state, INPUTS)
    assert later.diff(later.read(after), INPUTS) == {}
    assert after.outputs["claims"]["file:/etc/key"]["content"] == REPOSITORY.digest(f"key={NEW}\n")


def test_a_preview_says_that_it_changes_and_not_how(made):
    state = made(toy_word=OLD).create(INPUTS)
    later = made(toy_word=NEW)

    later.update(state, INPUTS, preview=True)

    assert later.messages("INFO") == [
        "differs: file:/etc/key.content is not the secret that is declared\n"
        "/etc/key: the content is secret, and not shown\n"
        "step 1/1: play role toy"
    ]


def test_a_removed_secret_is_not_shown_as_the_previous_value(made):
    """
    Nobody knows its value any more, and the file still holds it.
    """
    state = made(toy_word=OLD).create(INPUTS)
    later = made()

    later.update(state, {**INPUTS, "variables": {"key": "public"}}, preview=True)

    assert later.messages("INFO") != []
    assert OLD not in all_messages(later)


def sealed(struct: Struct, *keys: str) -> bool:
    value: Any = struct
    for key in keys:
        value = value[key]
    return isinstance(value, Struct) and rpc._special_sig_key in value


def test_inputs_and_outputs_hold_the_reference_and_digests_that_pulumi_encrypts(made):
    provider = made(toy_word=OLD)
    answer = provider.stub.Check(provider_pb2.CheckRequest(urn=provider.urn(INPUTS), news=encode(INPUTS)))
    created = provider.stub.Create(provider_pb2.CreateRequest(urn=provider.urn(INPUTS), properties=answer.inputs))

    for struct in (answer.inputs, created.properties):
        assert OLD not in str(struct)
        assert sealed(struct, "claims", "file:/etc/key", "content")
        assert not sealed(struct, "claims", "file:/etc/key", "mode")
        assert not sealed(struct, "claims", "file:/etc/plain", "content")
        assert struct["variables"]["key"]["secret"] == "toy_word"


def test_output_of_a_task_is_printed_without_secrets(made, entries):
    """
    Progress, and the error: the value, and the base64 of what it stands in.
    """
    coded = base64.b64encode(f"key={NEW}\n".encode()).decode()

    def fails(step: PlayRole, host: str, say: Callable[[str], None]) -> None:
        say(f"Write {NEW}")
        raise NotDone(f"task 'Set the key {NEW}': got {NEW!r} in {coded}", (f"tool --key {NEW}",))

    provider = made(fails, toy_word=NEW)
    with failing("ABORTED") as failures:
        provider.create(INPUTS)

    assert [entry["event"] for entry in entries] == ["began", "ended"]
    assert NEW not in str(entries) and "task 'Set the key [secret]'" in entries[1]["error"]

    assert "Write [secret]" in all_messages(provider)
    assert "task 'Set the key [secret]': got '[secret]' in " in failures[0].message
    for text in (all_messages(provider), failures[0].message, str(failures[0].kept)):
        assert NEW not in text
        assert coded[6:-6] not in text


def test_a_crash_of_ours_is_reported_without_secrets(made, capfd):
    def crashes(step: PlayRole, host: str, say: Callable[[str], None]) -> None:
        raise KeyError(NEW)

    with failing("ABORTED") as failures:
        made(crashes, toy_word=NEW).create(INPUTS)

    assert "rackwright itself failed: KeyError: '[secret]'" in failures[0].message
    assert NEW not in capfd.readouterr().err


def test_without_the_value_nothing_is_written_and_the_claim_is_unknown(made, rack):
    """
    A stand-in never reaches a host.
    """
    rack[HOST].set_facts({**host_with(OLD), "owners": {}})
    provider = made()

    with failing("FAILED_PRECONDITION") as failures:
        provider.create(INPUTS)
    assert "the value of the secret toy_word is not known here" in failures[0].message
    assert rack[HOST].steps == []
    assert provider.check(INPUTS)["claims"]["file:/etc/key"]["content"] == {
        "unknown": "the value of the secret toy_word is not known here"
    }


def test_a_changed_secret_does_not_replace_the_provider(made):
    configs = [encode({"secrets": f'{{"toy_word": "{value}"}}'}) for value in (OLD, NEW)]
    request = provider_pb2.DiffRequest(olds=configs[0], news=configs[1])

    answer = made().stub.DiffConfig(request)

    assert answer.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert not answer.replaces and not answer.deleteBeforeReplace


def test_a_value_that_is_too_short_is_refused_without_it(made):
    with failing("INVALID_ARGUMENT") as failures:
        made(toy_word="sh0rt")

    assert sentences(failures[0].message).startswith(
        "rackwright:secrets.toy_word: got 5 characters; a secret is a text of 8"
    )
    assert "sh0rt" not in failures[0].message
