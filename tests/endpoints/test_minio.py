"""Policies of MinIO's users: what is read, set and withdrawn, on a server in memory. `cold.6[minio]` has a real one."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from rackwright.endpoints import minio, minio_cipher
from rackwright.errors import StepFailed

ANY = {"Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}]}
OTHER = {"Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::others/*"]}]}
OWN = {"Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::models/*"]}]}
LINE = "Allow trainer s3:GetObject arn:aws:s3:::models/*"


class Store:
    """The users, groups and policies of a MinIO, behind the function that sends requests."""

    def __init__(self) -> None:
        self.policies: dict[str, Any] = {"readwrite": ANY, "others": OTHER}
        self.users: dict[str, dict[str, Any]] = {"trainer": {"status": "enabled"}, "a.b,c": {"status": "enabled"}}
        self.groups: dict[str, dict[str, Any]] = {}
        self.bucket_policies = ["models"]
        self._request_signer = SimpleNamespace(_credentials=Credentials("manager", "secret"))

    def delete_bucket_policy(self, Bucket: str) -> None:
        self.bucket_policies.remove(Bucket)

    def send(
        self, client: Any, method: str, path: str, query: dict[str, str], body: bytes = b"", encrypted: bool = False
    ) -> dict[str, Any]:
        assert encrypted == (path == "list-users")
        match path:
            case "list-users":
                return {**self.users}
            case "list-canned-policies":
                return {**self.policies}
            case "add-canned-policy":
                self.policies[query["name"]] = json.loads(body)
            case "remove-canned-policy":
                del self.policies[query["name"]]
            case "user-info":
                return self._found(self.users, query["accessKey"], "XMinioAdminNoSuchUser")
            case "group":
                return self._found(self.groups, query["group"], "XMinioAdminNoSuchGroup")
            case "set-user-or-group-policy":
                self.users[query["userOrGroup"]]["policyName"] = query["policyName"]
        return {}

    @staticmethod
    def _found(table: dict[str, dict[str, Any]], name: str, code: str) -> dict[str, Any]:
        if name not in table:
            raise ClientError({"Error": {"Code": code}}, "user-info")
        return table[name]


@pytest.fixture
def store(monkeypatch) -> Store:
    store = Store()
    monkeypatch.setattr(minio, "send", store.send)
    return store


def test_rights_are_set_once_and_other_policies_of_a_user_stay(store):
    store.users["trainer"]["policyName"] = "others"
    minio.set_rights(store, "archive/models", "models", {"trainer": OWN, "a.b,c": OWN})

    assert store.users["trainer"]["policyName"] == "others,rackwright.models.trainer"
    assert store.users["a.b,c"]["policyName"] == "rackwright.models.a.b%2Cc"
    assert store.bucket_policies == []
    assert minio.read_rights(store, {"models": ["trainer"], "other": ["trainer"]}) == {
        "models": [LINE.replace("trainer", "a.b,c"), LINE],
        "other": [],
    }


def test_rights_of_users_that_are_no_longer_declared_are_found_and_withdrawn(store):
    minio.set_rights(store, "archive/models", "models", {"trainer": OWN})
    store.bucket_policies = ["models"]

    assert minio.read_rights(store, {"models": []}) == {"models": [LINE]}
    minio.set_rights(store, "archive/models", "models", {})

    assert store.users["trainer"]["policyName"] == ""
    assert {*store.policies} == {"readwrite", "others"}


@pytest.mark.parametrize("by", ["user", "group"])
def test_rights_by_policies_of_others_are_lines_of_the_bucket_and_no_change_hides_them(store, by):
    minio.set_rights(store, "archive/models", "models", {"trainer": OWN})
    store.bucket_policies = ["models"]
    if by == "user":
        store.users["trainer"]["policyName"] += ",readwrite"
    else:
        store.users["trainer"]["memberOf"] = ["people", "gone"]
        store.groups["people"] = {"status": "enabled", "policy": "readwrite"}

    assert minio.read_rights(store, {"models": ["trainer"]}) == {"models": ["Allow trainer s3:* arn:aws:s3:::*", LINE]}
    with pytest.raises(StepFailed, match="the user trainer also has rights on models by readwrite"):
        minio.set_rights(store, "archive/models", "models", {"trainer": OWN})


@pytest.mark.parametrize("by", ["user", "group"])
def test_a_user_that_is_not_declared_is_a_line_of_each_bucket_and_refuses_the_change(store, by):
    store.users["mallory"] = {"status": "enabled"}
    if by == "user":
        store.users["mallory"]["policyName"] = "readwrite"
    else:
        store.users["mallory"]["memberOf"] = ["people"]
        store.groups["people"] = {"status": "enabled", "policy": "readwrite"}
    line = "Allow mallory s3:* arn:aws:s3:::*"

    assert minio.read_rights(store, {"models": ["trainer"], "other": []}) == {"models": [line], "other": [line]}
    with pytest.raises(StepFailed, match="the user mallory, whom `access` does not name, has rights on models by read"):
        minio.set_rights(store, "archive/models", "models", {"trainer": OWN})
    store.users["mallory"]["status"] = "disabled"
    assert minio.read_rights(store, {"other": []}) == {"other": []}


def test_the_account_that_reads_is_no_user_of_a_bucket_unless_it_is_declared(store):
    store.users["manager"] = {"status": "enabled", "policyName": "readwrite"}

    assert minio.read_rights(store, {"models": []}) == {"models": []}
    assert minio.read_rights(store, {"models": ["manager"]}) == {"models": ["Allow manager s3:* arn:aws:s3:::*"]}


def test_users_that_cannot_be_listed_leave_the_rights_unknown(store, monkeypatch):
    def refuse(client: Any, method: str, path: str, *more: Any) -> dict[str, Any]:
        if path == "list-users":
            raise ClientError({"Error": {"Code": "AccessDenied"}}, path)
        return store.send(client, method, path, *more)

    monkeypatch.setattr(minio, "send", refuse)
    buckets: dict[str, dict[str, Any]] = {"models": {"policy": []}}
    minio.add_policies(store, {"models": ["trainer"]}, buckets)

    assert "AccessDenied" in buckets["models"]["policy"]["unknown"]


def statement(**changed: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"], **changed}]}


@pytest.mark.parametrize(("place", "value"), [
    *(("policies", {"odd": statement(**{key: value})}) for key in ("Action", "Resource", "NotResource")
      for value in (5, True, {"a": 1}, [5], [None], [["x"]], "*" * 2049 + "x")),
    *(("policies", {"odd": statement(Effect=effect)}) for effect in ("allow", None, 5, ["Allow"])),
    ("policies", {"odd": {"Statement": [{"effect": "Allow", "action": ["s3:*"], "resource": ["*"]}]}}),
    ("policies", {"odd": statement(Action=["a"] * 101, Resource=["*"] * 101)}),
    *(("users", {"trainer": value}) for value in (
        5, [], None, {}, {"status": "on"}, {"status": True}, {"status": "enabled", "memberOf": 5},
        {"status": "enabled", "memberOf": [5]}, {"status": "enabled", "policyName": ["odd"]},
        {"status": "enabled", "memberOf": [f"g{number}" for number in range(1001)]},
    )),
    ("users", {f"u{number}": {"status": "disabled"} for number in range(1001)}),
    ("groups", {"g": {}}), ("groups", {"g": {"status": "Enabled", "policy": "odd"}}),
    ("groups", {"g": {"status": "enabled", "policy": 5}}),
])  # fmt: skip
def test_an_answer_of_another_form_leaves_the_rights_unknown(store, place: str, value: Any):
    store.policies["odd"] = statement()
    store.users["trainer"] |= {"policyName": "odd", "memberOf": ["g"]}
    store.groups["g"] = {"status": "enabled", "policy": "odd"}
    setattr(store, place, value)
    buckets: dict[str, dict[str, Any]] = {"models": {"policy": []}}
    minio.add_policies(store, {"models": ["trainer"]}, buckets)

    assert "InvalidAnswer" in buckets["models"]["policy"]["unknown"]


def test_a_resource_of_many_stars_has_as_many_places_as_one_star():
    assert not minio._concerns("a" + "*" * 2000, "models") and minio._concerns("*" * 2000, "models")
    assert minio._concerns("?*" * 1000, "m" * 1000)
    assert minio._states("*x", "ab", 1).bit_length() <= 2


def test_a_policy_without_resources_concerns_every_bucket(store):
    store.policies["admin"] = {"Statement": [{"Effect": "Allow", "Action": ["admin:*"]}]}
    store.users["trainer"]["policyName"] = "admin"

    assert minio.read_rights(store, {"models": ["trainer"]}) == {"models": ["Allow trainer admin:* *"]}


@pytest.mark.parametrize(
    ("user", "problem"),
    [(None, "MinIO has no user trainer"), ({"status": "disabled"}, "the user trainer is disabled")],
)
def test_a_user_without_effect_of_its_rights_is_named_and_has_none(store, user, problem):
    minio.set_rights(store, "archive/models", "models", {"trainer": OWN})
    store.bucket_policies = ["models"]
    del store.users["trainer"]
    if user:
        store.users["trainer"] = user | {"policyName": "rackwright.models.trainer"}

    assert minio.read_rights(store, {"models": ["trainer"]}) == {"models": []}
    with pytest.raises(StepFailed, match=problem):
        minio.set_rights(store, "archive/models", "models", {"trainer": OWN})


def test_policies_that_cannot_be_read_leave_the_rights_unknown(store, monkeypatch):
    def refuse(*arguments: Any) -> dict[str, Any]:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "list-canned-policies")

    monkeypatch.setattr(minio, "send", refuse)
    buckets: dict[str, dict[str, Any]] = {"models": {"policy": []}}
    minio.add_policies(store, {"models": ["trainer"]}, buckets)

    assert "AccessDenied" in buckets["models"]["policy"]["unknown"]


@pytest.mark.parametrize(
    ("resource", "concerns"),
    [
        ("models", True), ("models/*", True), ("models/a/b", True), ("*", True), ("m*s/x", True), ("model?/*", True),
        ("m*", True), ("a*", False), ("models2/*", False), ("mode", False), ("model?", True),
        ("m*z/*", True), ("${aws:username}", True), ("${aws:username}/*", True), ("x${aws:username}/*", False),
        ("*/secret", True), ("mod**", True), ("[m]odels/*", False), ("", False),
    ],
)  # fmt: skip
def test_a_resource_concerns_each_bucket_that_minio_would_take_it_for(resource: str, concerns: bool) -> None:
    """MinIO's star also stands for a slash: `m*z/*` gives rights on `models/az/x`."""
    assert minio._concerns(f"arn:aws:s3:::{resource}", "models") == concerns


@pytest.mark.parametrize("answer", [{"odd": 5}, {"odd": {"Statement": 5}}, {"odd": {"Statement": [5]}}, {"odd": {}}])
def test_an_answer_that_is_not_understood_is_not_the_absence_of_rights(store, monkeypatch, answer):
    monkeypatch.setattr(minio, "send", lambda *arguments: answer)
    buckets: dict[str, dict[str, Any]] = {"models": {"policy": []}}
    minio.add_policies(store, {"models": ["trainer"]}, buckets)

    assert "InvalidAnswer" in buckets["models"]["policy"]["unknown"]
    with pytest.raises(ClientError, match="InvalidAnswer"):
        minio.set_rights(store, "archive/models", "models", {"trainer": OWN})


def sent(content: bytes, status: int = 200, encrypted: bool = False) -> Any:
    """Return what `send` makes of an answer with *content*."""
    answer = SimpleNamespace(status_code=status, content=content, headers={})
    endpoint = SimpleNamespace(http_session=SimpleNamespace(send=lambda request: answer))
    signer = SimpleNamespace(_credentials=Credentials("key", "secret"))
    meta = SimpleNamespace(endpoint_url="http://192.0.2.1", region_name="us-east-1")
    client = SimpleNamespace(meta=meta, _request_signer=signer, _endpoint=endpoint)
    return minio.send(client, "GET", "list-canned-policies", {}, b"", encrypted)


@pytest.mark.parametrize("size", [0, 5, minio_cipher.PART - 20, 3 * minio_cipher.PART])
def test_the_list_of_users_is_decrypted_under_the_key_of_the_client(size: int):
    text = json.dumps({"trainer": {"policyName": "x" * size}}).encode()
    content = minio_cipher.encrypt(text, "secret", b"s" * 32, b"n" * 8)

    assert sent(content, encrypted=True) == json.loads(text)
    changed = content[:60] + bytes([content[60] ^ 1]) + content[61:]
    other = minio_cipher.encrypt(text, "other", b"s" * 32, b"n" * 8)
    for wrong in (changed, other, text, content[:41], content[:-1], b"", b"\x07" * 99):
        with pytest.raises(ClientError, match="InvalidAnswer"):
            sent(wrong, encrypted=True)


def test_an_answer_with_status_200_that_is_no_object_is_an_error():
    many = b'{"a": "' + b"x" * minio.ANSWER_BYTES + b'"}'
    for content in (b"<html>", b"[]", b"5", b"{", b"\xff", many):
        with pytest.raises(ClientError, match="InvalidAnswer"):
            sent(content)
    assert sent(b" ") == {} and sent(b'{"a": {}}') == {"a": {}}
    with pytest.raises(ClientError, match="403"):
        sent(b"<html>", 403)
