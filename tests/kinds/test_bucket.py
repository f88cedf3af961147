"""Buckets: the requests of each plan, what is refused, and their removal, on recorded facts."""

import json
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, get_args

import pytest

from rackwright.audit.evidence import from_snapshots
from rackwright.audit.report import compare
from rackwright.core import diff as comparison
from rackwright.core.contract import Call, Plan
from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from rackwright.facts.s3 import policy_lines
from rackwright.kinds.bucket import BucketKind
from rackwright.kinds.bucket.policy import ON_OBJECTS, TRUSTED_KEYS, document
from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.schema import Bucket
from rackwright.schema.object_store import Right, is_internal
from tests.support.recorded_hosts import AT_ENDPOINTS, STACK, STORED, recorded

KIND = BucketKind()
SPEC = AT_ENDPOINTS["archive/models"].spec
assert isinstance(SPEC, BucketSpec)


@pytest.fixture
def raw() -> dict[str, Any]:
    return recorded("s3:archive")


def planned(raw: dict[str, Any], of: BucketSpec = SPEC, **changes: Any) -> Plan:
    declared = of.declared.model_dump(mode="json", exclude_none=True) | changes
    spec = of.model_copy(update={"declared": Bucket.model_validate(declared)})
    claims = KIND.claims(spec, STACK.repository)
    found = comparison.diff(claims, KIND.observe(claims, Facts(raw)))
    return KIND.plan(spec, found, Facts(raw), STACK.repository)


def operations(plan: Plan) -> list[str]:
    assert plan.refusals == ()
    return [step.operation for step in plan.steps if isinstance(step, Call)]


def test_a_new_bucket_has_its_lock_and_its_owner_first(raw):
    del raw["s3"]["buckets"]["models"]
    plan = planned(raw)

    assert operations(plan) == [
        "create_bucket",
        "put_bucket_tagging",
        "put_bucket_versioning",
        "put_object_lock_configuration",
        "put_bucket_lifecycle_configuration",
        "put_bucket_policy",
    ]
    assert plan.steps[0].parameters == {"Bucket": "models", "ObjectLockEnabledForBucket": True}
    assert plan.creates


@pytest.mark.parametrize(
    ("name", "value", "operation"),
    [
        ("versioning", "suspended", "put_bucket_versioning"),
        ("retention_days", 1, "put_object_lock_configuration"),
        ("earlier_days", 1, "put_bucket_lifecycle_configuration"),
        ("other_rules", ["by-hand"], "put_bucket_lifecycle_configuration"),
        ("cors", ["GET from *"], "delete_bucket_cors"),
        ("policy", [], "put_bucket_policy"),
        ("grants", ["AllUsers READ"], "put_bucket_acl"),
        ("encryption", "sse-kms", "delete_bucket_encryption"),
        ("ownership", "ObjectWriter", "put_bucket_ownership_controls"),
        ("earlier_days", "2 rules with one id: 1, 3650", "put_bucket_lifecycle_configuration"),
    ],
)
def test_one_change_by_hand_is_mended_by_one_request(raw, name, value, operation):
    raw["s3"]["buckets"]["models"][name] = value

    assert operations(planned(raw)) == [operation]


def test_no_request_follows_from_an_unknown_setting(raw):
    raw["s3"]["buckets"]["models"]["policy"] = {"unknown": "AccessDenied"}

    assert planned(raw) == Plan()


def test_rights_that_are_no_longer_declared_are_withdrawn(raw):
    assert operations(planned(raw, access={})) == ["delete_bucket_policy"]


def test_no_right_covers_deletion(raw):
    raw["s3"]["buckets"]["models"]["policy"] = []
    [step] = planned(raw).steps
    statements = json.loads(step.parameters["Policy"])["Statement"]
    actions = {action for each in statements if each["Effect"] == "Allow" for action in each["Action"]}

    assert "s3:PutObject" in actions
    assert not [action for action in actions if "Delete" in action or "Bypass" in action or "*" in action]


@pytest.mark.parametrize("right", get_args(Right))
def test_every_right_leaves_out_the_files_of_the_store_itself(right):
    spec = SPEC.model_copy(update={"declared": Bucket(store="archive", access={"any": right})})
    denied = {
        (action, resource.removeprefix("arn:aws:s3:::models/"))
        for each in document(spec)["Statement"]
        if each["Effect"] == "Deny"
        for action in each["Action"]
        for resource in each["Resource"]
    }
    of_objects = {action for actions in ON_OBJECTS.values() for action in actions if action.endswith("Object")}

    for key in ("m.versions", "a/m.versions/v_1", ".versions/v_1", ".uploads", ".uploads/1", "/.uploads/1"):
        assert is_internal(key)
        assert of_objects <= {action for action, pattern in denied if fnmatchcase(key, pattern)}
    for key in ("m.versions.json", "versions/m", "uploads/m", "m.uploads/1", ".rackwright/restore-test.json"):
        assert not is_internal(key)
        assert not [pattern for _, pattern in denied if pattern not in TRUSTED_KEYS and fnmatchcase(key, pattern)]


@pytest.mark.parametrize(
    ("feature", "name", "value"), [("retention", "retention_days", 1), ("lifecycle", "earlier_days", 1)]
)
def test_what_would_not_hold_is_refused(raw, feature, name, value):
    raw["s3"]["features"][feature] = False
    raw["s3"]["buckets"]["models"][name] = value
    [refusal] = planned(raw).refusals

    assert refusal.problem == f"SeaweedFS 8000GB 4.48 has no {feature}, so {name} would not hold"


def test_unfinished_uploads_can_stay_on_a_store_without_a_lifecycle(raw):
    raw["s3"]["features"] |= {"lifecycle": False, "upload expiry": False}
    raw["s3"]["buckets"]["models"] |= {"earlier_days": None, "uploads_days": None}
    [refusal] = planned(raw, expiry={}).refusals

    assert refusal.help.startswith("Write `expiry: {uploads_days: never}` at buckets.models, ")
    assert operations(planned(raw, expiry={"uploads_days": "never"})) == []


def test_a_new_bucket_without_ages_needs_no_lifecycle(raw):
    del raw["s3"]["buckets"]["models"]

    assert "delete_bucket_lifecycle" not in operations(planned(raw, expiry={"uploads_days": "never"}))


def test_users_of_a_policy_can_be_access_keys(raw):
    spec = SPEC.model_copy(update={"policy_users": "access_key"})
    principals = {name for each in document(spec)["Statement"] for name in each["Principal"]["AWS"]}

    assert principals == {*SPEC.declared.access}


def test_a_right_without_an_effect_is_manual_work_unless_the_policy_differs_too(raw):
    raw["s3"]["buckets"]["models"]["rights"]["trainer"] = []
    plan = planned(raw)

    assert plan.steps == ()
    assert [(each.path, each.actual) for each in plan.by_hand] == [("rights:models/trainer.allowed", ())]

    raw["s3"]["buckets"]["models"]["policy"] = []
    assert operations(planned(raw)) == ["put_bucket_policy"] and planned(raw).by_hand == ()


def test_a_user_without_a_right_who_has_one_is_found(raw):
    raw["s3"]["buckets"]["backups"]["rights"]["trainer"] = ["get", "list"]
    spec = AT_ENDPOINTS["archive/backups"].spec
    claims = KIND.claims(spec, STACK.repository)

    [found] = comparison.diff(claims, KIND.observe(claims, Facts(raw)))
    assert found.path == "rights:backups/trainer.allowed"


@pytest.mark.parametrize(("server", "listing"), [("SeaweedFS 30GB 4.48", "not_shown"), ("another", "by_folder")])
def test_a_store_that_lists_by_folder_needs_the_word_in_the_fleet(raw, server, listing):
    raw["s3"]["server"] = server
    raw["s3"]["buckets"]["models"]["listing"] = listing
    plan = planned(raw, SPEC.model_copy(update={"listing": "by_byte"}))

    assert [(each.path, each.actual) for each in plan.by_hand] == [("endpoint:archive.listing", "by_folder")]
    assert planned(raw) == Plan()


def of_minio(raw: dict[str, Any]) -> BucketSpec:
    """Return the spec of the bucket on MinIO, whose facts *raw* becomes."""
    spec = SPEC.model_copy(update={"policy_users": "minio"})
    raw["s3"]["server"] = "MinIO"
    raw["s3"]["features"]["upload expiry"] = False
    raw["s3"]["buckets"]["models"] |= {"policy": sorted(policy_lines(document(spec))), "uploads_days": None}
    return spec


def test_rights_on_minio_are_policies_of_its_users(raw):
    spec = of_minio(raw)
    assert operations(planned(raw, spec, expiry={"earlier_days": 3650, "uploads_days": "never"})) == []

    raw["s3"]["buckets"]["models"]["policy"] = []
    [step] = planned(raw, spec, expiry={"earlier_days": 3650, "uploads_days": "never"}).steps

    assert (step.operation, {*step.parameters["Policies"]}) == ("set_user_rights", {*SPEC.declared.access})
    for user, policy in step.parameters["Policies"].items():
        statements = [{**each, "Principal": {"AWS": [user]}} for each in policy["Statement"]]
        assert {*policy_lines({"Statement": statements})} == {
            line for line in policy_lines(document(spec)) if line.split()[1] == user
        }


def test_rights_on_minio_end_with_the_bucket(raw):
    plan = KIND.removal(of_minio(raw), Facts(raw), STACK.repository, False)

    assert operations(plan) == ["set_user_rights", "delete_bucket"]
    assert plan.steps[0].parameters["Policies"] == {}


def test_policies_of_buckets_and_rules_for_uploads_are_refused_on_minio(raw):
    of_minio(raw)
    raw["s3"]["buckets"]["models"]["policy"] = []
    rights, uploads = planned(raw).refusals

    assert rights.help == "Write `policy_users: minio` at object_stores.archive"
    assert uploads.problem == "MinIO has no upload expiry, so uploads_days would not hold"
    assert uploads.help.startswith("Write `expiry: {uploads_days: never}` at buckets.models, ")


def test_public_access_by_the_server_itself_is_manual_work(raw):
    raw["s3"]["anonymous"] = raw["s3"]["buckets"]["models"]["anonymous"] = "allowed"
    plan = planned(raw)

    assert plan.steps == ()
    assert [each.path for each in plan.by_hand] == ["endpoint:archive.anonymous", "bucket:models.anonymous"]


@pytest.mark.parametrize("name", ["policy", "grants"])
def test_public_access_by_a_right_that_up_withdraws_is_no_manual_work(raw, name):
    raw["s3"]["buckets"]["models"] |= {"anonymous": "allowed", name: ["AllUsers READ"]}
    plan = planned(raw)

    assert len(operations(plan)) == 1 and plan.by_hand == ()


def test_a_bucket_without_an_owner_is_taken_over_if_it_is_empty_or_with_consent(raw):
    models = raw["s3"]["buckets"]["models"]
    del models["tags"]["rackwright-owner"]
    assert operations(planned(raw)) == ["put_bucket_tagging"]

    models["empty"] = False
    [refusal] = planned(raw).refusals

    assert refusal.id == "bucket-without-owner"
    assert operations(planned(raw, takeover="allowed")) == ["put_bucket_tagging"]


def test_a_bucket_of_another_fleet_is_neither_changed_nor_removed(raw):
    raw["s3"]["buckets"]["models"]["tags"]["rackwright-owner"] = "another"

    for plan in (planned(raw, takeover="allowed"), KIND.removal(SPEC, Facts(raw), STACK.repository, True)):
        assert [refusal.id for refusal in plan.refusals] == ["other-owner"]


def test_an_empty_bucket_is_removed_and_one_with_objects_needs_consent(raw):
    assert operations(KIND.removal(SPEC, Facts(raw), STACK.repository, False)) == ["delete_bucket"]

    raw["s3"]["buckets"]["models"]["empty"] = False
    [refusal] = KIND.removal(SPEC, Facts(raw), STACK.repository, False).refusals

    assert refusal.id == "bucket-holds-data"
    plan = KIND.removal(SPEC, Facts(raw), STACK.repository, True)
    assert operations(plan) == ["empty_bucket", "delete_bucket"]


def test_a_snapshot_answers_an_audit_without_the_store(raw, tmp_path):
    raw["s3"]["buckets"]["models"]["versioning"] = "suspended"
    path = snapshot.save(tmp_path, "s3:archive", Facts(raw))
    evidence = from_snapshots(tmp_path, datetime.now(UTC), [*map(str, STORED.endpoint_sources)])
    report = compare(STORED, evidence)

    assert path.parent.name == "s3:archive"
    assert [each.path for result in report.results for each in result.known_differences] == ["bucket:models.versioning"]
    assert report.exit_status == 1


def test_a_missing_snapshot_leaves_buckets_unknown(tmp_path):
    report = compare(STORED, from_snapshots(tmp_path, datetime.now(UTC), [*map(str, STORED.endpoint_sources)]))

    assert report.exit_status == 3
    assert all("no snapshot of the endpoint" in str(result.not_reached) for result in report.results)


@pytest.mark.parametrize(
    ("test", "found"),
    [
        (None, "none"),
        ({"at": -31 * 86400, "passed": True}, 31),
        ({"at": -86400, "passed": False}, "failed"),
        ({"at": -30 * 86400, "passed": True}, None),
    ],
)
def test_a_missed_or_failed_restore_test_differs_and_is_for_a_person(raw, test, found):
    """
    The times count from that of the reading.
    """
    raw["s3"]["buckets"]["models"] |= {
        "empty": False,
        "restore_test": test and {**test, "at": raw["taken_at"] + test["at"]},
    }
    plan = planned(raw)

    assert plan.steps == ()
    assert [(each.name, each.actual) for each in plan.by_hand] == ([("restore_test_age_days", found)] if found else [])


def test_an_empty_bucket_needs_no_restore_test(raw):
    """
    There is no archive yet: the first `up` of a store would end with a difference that no person can mend.
    """
    raw["s3"]["buckets"]["models"] |= {"empty": True, "restore_test": None}
    assert planned(raw).by_hand == ()
