"""The kind of buckets in object stores: settings, rights and retention."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rackwright.core.contract import Absent, Between, Claim, Difference, Observation, OneOf, Plan, Value, Want
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.facts.s3 import BucketFacts, policy_lines
from rackwright.facts.view import UnknownFact
from rackwright.kinds.bucket.policy import document
from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.kinds.shared import observation
from rackwright.schema.object_store import OWNER_TAG, allowed_operations

NONE, ENFORCED = "none", "BucketOwnerEnforced"
DAY_SECONDS = 24 * 3600
CLOCK_SECONDS = 300
"""Largest difference of two clocks that is right. At 900 seconds, servers refuse every request."""
DAYS = ("current_days", "earlier_days", "uploads_days")
_CLOCK = "set the clock of the server or of this computer: servers refuse requests at 15 minutes of difference"
_ANONYMOUS_STORE = "configure accounts in the server: without any, it answers everybody"
_ANONYMOUS = (
    "remove the public access in the server's own settings, unless `policy` or `grants` of the bucket differs too: "
    "`rackwright up` mends those"
)
_LISTING = (
    "write the order that was found as `listing` of the object store; on one `by_folder`, use no program that compares "
    "two listings, such as `aws s3 sync`: it takes objects for missing ones"
)
_RIGHTS = (
    "find out which policy, group or role of the store gives or denies the user these rights, and whether the store "
    "applies policies of buckets to users: MinIO does not, and needs `policy_users: minio`"
)
_RESTORE_TEST = "run `rackwright tier test STACK`, and find out why an archive cannot be restored if it fails"
_UNKNOWN_KEY = "correct the user's key in the fleet, or in the secrets of the stack"
_UNKNOWN = "give the account the right to read the settings of buckets"


class BucketKind:
    """The kind of buckets in object stores."""

    token: ClassVar[str] = "rackwright:object:Bucket"
    spec = BucketSpec

    def id(self, spec: BucketSpec) -> str:
        return spec.id

    def claims(self, spec: BucketSpec, repository: Repository) -> tuple[Claim, ...]:
        return tuple(_claims(spec))

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(_observe, claims, facts)

    def report(self, spec: BucketSpec, facts: Facts) -> dict[str, Any]:
        try:
            bucket = facts.s3.bucket(spec.name)
            return {"server": facts.s3.server} | ({} if bucket is None else {"empty": bucket.empty})
        except UnknownFact as reason:
            return {"unknown": str(reason)}

    def plan(self, spec: BucketSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        from rackwright.kinds.bucket import plan as planning

        return planning.plan(spec, differences, facts)

    def removal(self, spec: BucketSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        from rackwright.kinds.bucket import plan as planning

        return planning.removal(spec, facts, consent)

    def consents(self, spec: BucketSpec) -> bool:
        return spec.declared.destroy == "allowed"

    def rollout_group(self, spec: BucketSpec) -> None:
        return None


def _claims(spec: BucketSpec) -> Iterator[Claim]:
    declared = spec.declared
    yield Claim(
        f"endpoint:{spec.store}",
        {"clock_is_right": True, "anonymous": "refused", "listing": OneOf((spec.listing, "not_shown"))},
        owned=False,
        remedies={"clock_is_right": _CLOCK, "anonymous": _ANONYMOUS_STORE, "listing": _LISTING},
    )
    retention = declared.retention
    days: dict[str, Want] = {name: declared.expiry.days(name) or NONE for name in DAYS}
    want: dict[str, Want] = {
        "owner": spec.fleet,
        "tags": tuple(f"{key}={value}" for key, value in sorted(declared.tags.items())),
        "versioning": "enabled" if declared.versioning else OneOf(("never", "suspended")),
        "retention_mode": retention.mode if retention else NONE,
        "retention_days": retention.days if retention else NONE,
        "encryption": _encryption(spec),
        **days,
        "other_rules": (),
        "policy": tuple(sorted({*policy_lines(document(spec))})),
        "cors": (),
        "grants": (),
        "ownership": OneOf((ENFORCED, NONE)),
        "anonymous": "refused",
    }
    if declared.restore_test_days is not None:
        want["restore_test_age_days"] = Between(high=declared.restore_test_days)
    remedies = {"anonymous": _ANONYMOUS, "restore_test_age_days": _RESTORE_TEST}
    yield Claim(spec.thing, want, remedies=remedies, remedy_unknown=_UNKNOWN)
    for user in spec.users:
        rights = {"allowed": allowed_operations(declared.access.get(user), spec.policy_users)}
        yield Claim(spec.thing_of(user), rights, owned=False, remedy=_RIGHTS, remedy_unknown=_UNKNOWN_KEY)


def _encryption(spec: BucketSpec) -> Want:
    """Return the wanted encryption. A server without a key fails every write to an encrypted bucket."""
    if spec.declared.encryption != NONE:
        return spec.declared.encryption
    return OneOf((NONE, "sse-s3")) if spec.encryption_key else NONE


def _observe(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    if sort == "endpoint":
        return _of_store(facts, name)
    if sort == "rights":
        name, _, user = key.partition("/")
        bucket = facts.s3.bucket(name)
        return Absent() if bucket is None else bucket.rights(user)
    bucket = facts.s3.bucket(key)
    if bucket is not None and name == "restore_test_age_days":
        return _restore_test_age(bucket, facts.taken_at)
    return Absent() if bucket is None else _property(bucket, name)


def _of_store(facts: Facts, name: str) -> Value:
    match name:
        case "clock_is_right":
            return abs(facts.s3.clock_skew_seconds) <= CLOCK_SECONDS
        case "listing":
            return facts.s3.listing
        case _:
            return facts.s3.anonymous


def _restore_test_age(bucket: BucketFacts, now: float) -> Value:
    """Return the whole days since the last test; ``failed`` after a failed one, and ``none`` without any.

    An empty bucket has nothing to restore, and counts as tested today.
    """
    test = bucket.restore_test
    if test is None:
        return 0 if bucket.empty else NONE
    return int((now - test["at"]) // DAY_SECONDS) if test["passed"] else "failed"


def _property(bucket: BucketFacts, name: str) -> Value:
    match name:
        case "owner":
            return str(bucket.tags.get(OWNER_TAG, NONE))
        case "tags":
            return tuple(f"{key}={value}" for key, value in sorted(bucket.tags.items()) if key != OWNER_TAG)
        case "retention_mode" | "retention_days" | "current_days" | "earlier_days" | "uploads_days":
            setting: str | int | None = getattr(bucket, name)
            return NONE if setting is None else setting
        case _:
            value: Value = getattr(bucket, name)
            return value
