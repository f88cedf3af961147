"""Features of servers that answer in other ways than SeaweedFS."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from rackwright.endpoints import s3_facts

MISSING = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
UNCONFIGURED = {"Error": {"Code": "VersioningNotConfigured"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
NO_BUCKET = {"Error": {"Code": "NoSuchBucket"}, "ResponseMetadata": {"HTTPStatusCode": 404}}


class Client:
    """A client of a server that looks for the bucket first, and has no encryption and no versioning."""

    def __getattr__(self, operation: str) -> Any:
        def ask(Bucket: str) -> dict[str, Any]:
            if Bucket != "models":
                raise ClientError(NO_BUCKET, operation)
            if answer := {"get_bucket_encryption": MISSING, "get_bucket_versioning": UNCONFIGURED}.get(operation):
                raise ClientError(answer, operation)
            return {}

        return ask


@pytest.mark.parametrize(("names", "lacked"), [([], set()), (["models"], {"encryption", "versioning"})])
def test_features_that_only_an_existing_bucket_shows_are_found_with_the_first_bucket(names, lacked):
    with ThreadPoolExecutor() as pool:
        features = s3_facts._features(Client(), pool, names)

    assert {name for name, known in features.items() if not known} == lacked


def test_a_setting_of_a_missing_feature_is_absent_and_not_unknown():
    assert s3_facts._setting(Client(), "get_bucket_versioning", "models") == {}
    assert "unknown" in s3_facts._setting(Client(), "get_bucket_versioning", "other")


def rule(id: str = "rackwright-earlier", days: int = 30, **more: Any) -> dict[str, Any]:
    return {
        "ID": id,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": days},
    } | more


@pytest.mark.parametrize(
    ("rules", "earlier", "others"),
    [
        ([rule()], 30, []),
        ([], None, []),
        ([rule(days=1), rule(days=30)], "2 rules with one id: 1, 30", []),
        ([rule(days=30), rule(days=30)], "2 rules with one id: 30, 30", []),
        ([rule(Filter={"Prefix": "a/"})], "a rule with another Filter", []),
        ([rule(Prefix="a/")], "a rule with another Filter", []),
        ([rule(Status="Disabled")], "a rule with another Status", []),
        ([rule(Expiration={"Days": 1})], "a rule with another Expiration", []),
        (
            [rule(NoncurrentVersionExpiration={"NoncurrentDays": 30, "NewerNoncurrentVersions": 2})],
            "a rule with another NoncurrentVersionExpiration.NewerNoncurrentVersions",
            [],
        ),
        ([rule(), rule("by-hand")], 30, ["by-hand"]),
    ],
)
def test_a_rule_that_is_there_twice_or_is_another_one_is_no_age(rules, earlier, others):
    found = s3_facts._lifecycle({"Rules": rules})

    assert (found["earlier_days"], found["other_rules"]) == (earlier, others)


@pytest.mark.parametrize(
    ("convert", "answer"),
    [
        (s3_facts._tags, {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}),
        (
            s3_facts._encryption,
            {
                "ServerSideEncryptionConfiguration": {
                    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": name}} for name in "ab"]
                }
            },
        ),
        (
            s3_facts._retention,
            {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1, "Years": 1}}}},
        ),
    ],
)
def test_two_values_of_one_setting_are_unknown(convert, answer):
    assert "unknown" in s3_facts._convert(answer, convert)


def test_a_bucket_that_is_listed_twice_leaves_the_store_unread():
    class Twice:
        def list_buckets(self) -> dict[str, Any]:
            return {"Buckets": [{"Name": "models"}, {"Name": "models"}], "ResponseMetadata": {"HTTPHeaders": {}}}

    with pytest.raises(BotoCoreError, match="lists a bucket twice"):
        s3_facts.read(Twice(), Twice(), "key")


def test_an_owner_without_an_id_has_no_grant_of_another():
    """MinIO names neither the owner nor the owner's grant."""
    own = {"Grantee": {"Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}
    group = {"Grantee": {"Type": "Group", "URI": "http://acs/AllUsers"}, "Permission": "READ"}

    for owner in ({"ID": ""}, {}):
        assert s3_facts._grants({"Owner": owner, "Grants": [own]}) == []
        assert s3_facts._grants({"Owner": owner, "Grants": [own, group]}) == ["AllUsers READ"]
    assert s3_facts._grants({"Owner": {"ID": "o"}, "Grants": [own]}) == ["? FULL_CONTROL"]


def test_a_policy_of_a_bucket_on_minio_holds_for_everybody_alone():
    lines = ["Allow * s3:GetObject arn:aws:s3:::m/*", "Allow trainer s3:GetObject arn:aws:s3:::m/*"]

    assert s3_facts._in_force(lines) == lines[:1]
    assert s3_facts._in_force({"unknown": "why"}) == {"unknown": "why"}


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (["x-1", "x.txt", "x/a", "x/y/z"], "by_byte"),
        (["x/a", "x/y/z", "x-1", "x.txt"], "by_folder"),
        (["a", "b/c", "b/d"], "not_shown"),
        ([], "not_shown"),
    ],
)
def test_the_order_of_a_listing_is_seen_by_its_keys(keys, order):
    assert s3_facts._order(keys) == order


def test_a_real_listing_by_folder_is_found_also_without_the_name_of_the_server(server):
    client = server.client()
    client.create_bucket(Bucket="ordered")
    for key in ("x/y", "x-1"):
        client.put_object(Bucket="ordered", Key=key, Body=b"1")

    assert s3_facts._listing(client, "ordered") == "by_folder"
