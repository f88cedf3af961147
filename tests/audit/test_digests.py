"""Digests of what depends on secrets: who knows them tells, and who does not can audit."""

import json
from pathlib import Path

import pytest

from rackwright.audit.digests import compute_digests, insert_digests, load
from rackwright.audit.report import compare
from rackwright.core.contract import Between, Claim, OneOf, UnknownValue, Within
from rackwright.core.wire import decode_want, encode
from rackwright.errors import DeclarationError
from rackwright.facts.facts import Facts
from rackwright.stack import Stack, load_stack
from tests.support.fleet_with_secrets import BOTH, FLEET, configure

VALUES = {"first_key": "the-first-value", "second_key": "the-second-value"}
THING = "file:/etc/chrony/chrony.keys"
TEXT = (
    "# alpha/base: written by rackwright, and put back when it is changed.\n"
    "1 SHA256 the-first-value\n2 SHA256 the-second-value\n"
)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack as it is for who knows no secret."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "example.yaml").write_text(FLEET)
    monkeypatch.chdir(tmp_path)
    configure(tmp_path, BOTH)
    return load_stack("lab", tmp_path)


def found(stack: Stack, digests: object = None) -> object:
    """Return what an audit finds of the keys' content, on a host that has them right."""
    file = {"digest": stack.repository.digest(TEXT), "mode": "0640", "owner": "root:_chrony", "mtime_ns": 1}
    facts = Facts({"covers": {"files": ["/etc"]}, "files": {THING.removeprefix("file:"): file}})
    report = compare(stack, dict.fromkeys(("alpha", "beta"), facts), digests)  # type: ignore[arg-type]
    [role] = [result for result in report.results if result.name == "alpha/base"]
    return {item.name: item.actual for item in role.differences if item.thing == THING}


def test_values_that_depend_on_secrets_are_shown_as_keyed_digests(stack):
    digests = compute_digests(stack.with_secrets(VALUES))

    assert digests["claims"] == {
        "alpha/base": {THING: {"content": stack.repository.digest(TEXT)}},
        "beta/base": {THING: {"content": stack.repository.digest(TEXT.replace("alpha", "beta"))}},
    }
    assert "value" not in json.dumps(digests)


def test_without_the_passphrase_only_the_public_values_are_known(stack):
    unknown = {"content": UnknownValue("the value of the secret first_key, the secret second_key is not known here")}
    digests = compute_digests(stack.with_secrets(VALUES))["claims"]

    assert found(stack) == unknown
    assert found(stack, {"beta/base": digests["beta/base"]}) == unknown
    assert found(stack, digests) == {}
    assert found(stack.with_secrets(VALUES)) == {}
    other = compute_digests(stack.with_secrets({**VALUES, "first_key": "another-value"}))["claims"]
    assert found(stack, other) == {"content": stack.repository.digest(TEXT)}


def test_what_is_not_claimed_after_all_is_not_compared():
    claims = (Claim("package:a", {"installed": UnknownValue("x")}, secret=True), Claim("package:b", {"held": True}))

    assert insert_digests(claims, {"package:a": {"installed": None}, "package:b": {"held": None}}) == claims[1:]
    assert insert_digests(claims, {}) == claims


@pytest.mark.parametrize(
    "want", ["x", 5, True, 0.5, ("a", "b"), OneOf(("a", "b")), Between(None, 5), Between(1, 2), Within(("a",))]
)
def test_every_declared_value_comes_back_unchanged(want):
    assert decode_want(json.loads(json.dumps(encode(want)))) == want


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "the file cannot be read: No such file or directory. Correct the path"),
        ("[]", "the file has no digests; the output of `rackwright digests lab`"),
        ("{", "the file has no digests; the output of `rackwright digests lab`"),
        (
            '{"stack": "lab", "salt_id": "0", "claims": {"a": ["b"]}}',
            "the file has no digests; the output of `rackwright digests lab`",
        ),
        (
            '{"stack": "other", "salt_id": "0", "claims": {}}',
            "the digests are of stack other with salt 0; stack lab with salt",
        ),
    ],
)
def test_a_file_that_is_something_else_is_refused(stack, tmp_path, text, expected):
    path = tmp_path / "declared.json"
    if text:
        path.write_text(text)

    with pytest.raises(DeclarationError) as caught:
        load(path, stack)
    assert str(caught.value).startswith(f"{path}: {expected}")
