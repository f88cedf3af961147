"""The requests that make a bucket as declared, and those that remove it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rackwright.core.contract import Call, Difference, Plan
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.s3 import BucketFacts
from rackwright.kinds.bucket.policy import document, user_documents
from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.schema.object_store import LIFECYCLE_RULES, MINIO, OWNER_TAG

BY_HAND = ("clock_is_right", "anonymous", "restore_test_age_days", "allowed", "listing")
"""Properties that no request sets: they follow from the server's own settings, or from a test."""
PUBLIC = {"policy", "grants"}
"""Properties that may let everybody in, and that a request sets."""
FEATURE_OF: Mapping[str, str] = {
    "owner": "tags",
    "tags": "tags",
    "versioning": "versioning",
    "retention_mode": "retention",
    "retention_days": "retention",
    "encryption": "encryption",
    "current_days": "lifecycle",
    "earlier_days": "lifecycle",
    "uploads_days": "upload expiry",
    "other_rules": "lifecycle",
    "policy": "policy",
}
"""The feature of the server that sets each property."""


def plan(spec: BucketSpec, differences: Sequence[Difference], facts: Facts) -> Plan:
    """Return the requests that remove *differences*.

    Raises:
        UnknownFact: the store was not read.
    """
    known = [each for each in differences if not each.is_unknown]
    if not known:
        return Plan()
    by_hand = tuple(each for each in known if each.name in BY_HAND)
    names = {each.name for each in known if each.thing == spec.thing and each.name not in BY_HAND}
    if names & PUBLIC:  # the answer to everybody may follow from these
        by_hand = tuple(each for each in by_hand if (each.thing, each.name) != (spec.thing, "anonymous"))
    bucket = facts.s3.bucket(spec.name)
    if "policy" in names or bucket is None:  # the rights of users may follow from it
        by_hand = tuple(each for each in by_hand if each.name != "allowed")
    if bucket is None:
        by_hand = tuple(each for each in by_hand if each.thing != spec.thing)
    if not names:
        return Plan(by_hand=by_hand)
    if refusals := (*_missing_features(spec, known, facts), *_foreign(spec, bucket)):
        return Plan(refusals=refusals, by_hand=by_hand)
    create = (_create(spec),) if bucket is None else ()
    return Plan(steps=(*create, *_settings(spec, names, created=bucket is None)), by_hand=by_hand)


def removal(spec: BucketSpec, facts: Facts, consent: bool) -> Plan:
    """Return the requests that delete the bucket; with *consent*, its objects first.

    Raises:
        UnknownFact: the store was not read, or whether the bucket is empty.
    """
    bucket = facts.s3.bucket(spec.name)
    if bucket is None:
        return Plan()
    if (owner := bucket.tags.get(OWNER_TAG)) != spec.fleet:
        return Plan(refusals=(_other_owner(spec, owner),))
    delete = Call(f"delete the bucket {spec.name}", "delete_bucket", {"Bucket": spec.name})
    withdraw = (_user_rights(spec, {}),) if spec.policy_users == "minio" else ()
    if bucket.empty:
        return Plan(steps=(*withdraw, delete))
    if not consent:
        problem = f"the bucket {spec.name} holds objects or unfinished uploads, and its removal would delete them"
        help = "Write `destroy: allowed` at the bucket, run up, then remove it or destroy the stack"
        return Plan(refusals=(Diagnostic(spec.id, problem, "consent at the bucket", help, id="bucket-holds-data"),))
    loss = f"{spec.id}: all objects in all versions, except those under retention, which stop the removal"
    empty = Call(f"delete all objects of {spec.name}", "empty_bucket", {"Bucket": spec.name}, destroys=(loss,))
    return Plan(steps=(*withdraw, empty, delete))


def _create(spec: BucketSpec) -> Call:
    parameters: dict[str, Any] = {"Bucket": spec.name}
    if spec.declared.retention:  # many servers can enable a lock only now
        parameters["ObjectLockEnabledForBucket"] = True
    if spec.region != "us-east-1":
        parameters["CreateBucketConfiguration"] = {"LocationConstraint": spec.region}
    return Call(f"create the bucket {spec.name}", "create_bucket", parameters, creates=True)


def _settings(spec: BucketSpec, names: set[str], created: bool) -> Iterator[Call]:
    """Yield the requests that set the properties *names*; the owner first, and rights last."""
    declared, target = spec.declared, {"Bucket": spec.name}

    def call(text: str, operation: str, **parameters: Any) -> Call:
        return Call(f"{text} {spec.name}", operation, {**target, **parameters})

    if names & {"owner", "tags"}:
        tags = {**declared.tags, OWNER_TAG: spec.fleet}
        tag_set = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
        yield call("note owner and tags at", "put_bucket_tagging", Tagging={"TagSet": tag_set})
    if "cors" in names and not created:
        yield call("close to pages of other sites", "delete_bucket_cors")
    if "grants" in names and not created:
        yield call("withdraw all grants of", "put_bucket_acl", ACL="private")
    if "ownership" in names and not created:
        rules = [{"ObjectOwnership": "BucketOwnerEnforced"}]
        yield call("own all objects of", "put_bucket_ownership_controls", OwnershipControls={"Rules": rules})
    if "versioning" in names and (declared.versioning or not created):
        status = "Enabled" if declared.versioning else "Suspended"
        text = f"{'enable' if declared.versioning else 'suspend'} versioning of"
        yield call(text, "put_bucket_versioning", VersioningConfiguration={"Status": status})
    if names & {"retention_mode", "retention_days"} and (declared.retention or not created):
        yield _retention(spec)
    if "encryption" in names and (declared.encryption != "none" or not created):
        yield _encryption(spec)
    ages = any(declared.expiry.days(name) for name in LIFECYCLE_RULES)
    if names & {*LIFECYCLE_RULES, "other_rules"} and (ages or not created):
        yield _lifecycle(spec)
    if "policy" in names and (declared.access or not created):
        if spec.policy_users == "minio":
            yield _user_rights(spec, user_documents(spec))
        elif declared.access:
            yield call("set the rights on", "put_bucket_policy", Policy=json.dumps(document(spec)))
        else:
            yield call("withdraw all rights on", "delete_bucket_policy")


def _user_rights(spec: BucketSpec, policies: Mapping[str, Any]) -> Call:
    text = f"{'set' if policies else 'withdraw'} the rights of users on {spec.name}"
    return Call(text, "set_user_rights", {"Bucket": spec.name, "Policies": policies})


def _retention(spec: BucketSpec) -> Call:
    lock: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
    text = f"remove the default retention of {spec.name}"
    if retention := spec.declared.retention:
        lock["Rule"] = {"DefaultRetention": {"Mode": retention.mode.upper(), "Days": retention.days}}
        text = f"retain new objects of {spec.name} for {retention.days} days ({retention.mode})"
    parameters = {"Bucket": spec.name, "ObjectLockConfiguration": lock}
    return Call(text, "put_object_lock_configuration", parameters)


def _encryption(spec: BucketSpec) -> Call:
    if spec.declared.encryption == "none":
        return Call(f"stop encryption of {spec.name}", "delete_bucket_encryption", {"Bucket": spec.name})
    rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
    parameters = {"Bucket": spec.name, "ServerSideEncryptionConfiguration": {"Rules": rules}}
    return Call(f"encrypt new objects of {spec.name}", "put_bucket_encryption", parameters)


def _lifecycle(spec: BucketSpec) -> Call:
    rules = [
        {"ID": id, "Status": "Enabled", "Filter": {"Prefix": ""}, action: {key: days}}
        for name, (id, action, key) in LIFECYCLE_RULES.items()
        if (days := spec.declared.expiry.days(name)) is not None
    ]
    if not rules:
        return Call(f"remove all ages of {spec.name}", "delete_bucket_lifecycle", {"Bucket": spec.name})
    parameters = {"Bucket": spec.name, "LifecycleConfiguration": {"Rules": rules}}
    return Call(f"set the ages of {spec.name}", "put_bucket_lifecycle_configuration", parameters)


def _missing_features(spec: BucketSpec, known: Sequence[Difference], facts: Facts) -> Iterator[Diagnostic]:
    """Yield a refusal for each feature that a wanted setting needs and the server lacks."""
    if facts.s3.server == MINIO and spec.policy_users != "minio" and any(each.name == "policy" for each in known):
        problem = f"{MINIO} asks policies of buckets for requests without credentials alone, so access would not hold"
        help = f"Write `policy_users: minio` at object_stores.{spec.store}"
        yield Diagnostic(spec.id, problem, help=help, id="store-lacks-feature")
    needed: dict[str, str] = {}
    for each in known:
        if each.name in FEATURE_OF and each.want not in ("none", ()):
            needed.setdefault(FEATURE_OF[each.name], each.name)
    for feature, name in needed.items():
        if name == "versioning" and not spec.declared.versioning:
            continue
        if not facts.s3.feature(feature):
            server = facts.s3.server or "the server"
            problem = f"{server} has no {feature}, so {name} would not hold"
            remove = "Write `expiry: {uploads_days: never}` at" if name == "uploads_days" else "Remove the setting from"
            help = f"{remove} buckets.{spec.name}, or use a store that has {feature}"
            yield Diagnostic(spec.id, problem, help=help, id="store-lacks-feature")


def _foreign(spec: BucketSpec, bucket: BucketFacts | None) -> Iterator[Diagnostic]:
    """Yield a refusal if another owner has the bucket, or if it has no owner and holds objects."""
    if bucket is None or (owner := bucket.tags.get(OWNER_TAG)) == spec.fleet:
        return
    if owner is not None:
        yield _other_owner(spec, owner)
    elif not bucket.empty and spec.declared.takeover != "allowed":
        problem = f"the bucket {spec.name} exists, holds objects, and has no tag of an owner"
        help = "Write `takeover: allowed` at the bucket, or declare another name"
        note = "its settings decide how long its objects live"
        yield Diagnostic(spec.id, problem, "consent at the bucket", help, note, id="bucket-without-owner")


def _other_owner(spec: BucketSpec, owner: object) -> Diagnostic:
    problem = f"the bucket {spec.name} belongs to {f'the fleet {owner}' if owner else 'no fleet'}"
    return Diagnostic(spec.id, problem, "one owner for each bucket", "Declare it in one fleet only", id="other-owner")
