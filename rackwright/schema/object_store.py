"""Object stores that speak S3, and the buckets that a fleet declares in them."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rackwright.schema.base import Many, Schema
from rackwright.schema.certificate import Certificate
from rackwright.schema.formats import FORMATS, parse_address, parse_url
from rackwright.schema.host import Host, HostName, Name
from rackwright.schema.problem import Keys, Problem, hint, raise_any
from rackwright.schema.secret import FORMS, Form, Key, name_of

RULES = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"
MINIO = "MinIO"
"""Name of the server that refuses rules for unfinished uploads, which it removes by a setting of its own, and that asks
policies of buckets for requests without credentials alone."""
OWNER_TAG = "rackwright-owner"
"""The tag of a bucket with the fleet that owns it."""
ROLE = "object_store"
"""The role of the hosts that run an object store."""
RESTORE_TEST = ".rackwright/restore-test.json"
"""Key of the object with the result of the last restore test of a bucket."""
INTERNAL_PARTS = ("*.versions", ".uploads")
"""Parts of a key in which a store keeps its own files, as globs. SeaweedFS 4.48 has the versions of KEY as
``KEY.versions/v_ID`` and the parts of an upload as ``.uploads/ID``, and answers requests for them as for objects."""
SECRET_KEY_SHORTEST = 16
"""Minimum length of a secret key: a shorter one can be guessed from the signature of a request."""
LIFECYCLE_RULES: Mapping[str, tuple[str, str, str]] = {
    "current_days": ("rackwright-current", "Expiration", "Days"),
    "earlier_days": ("rackwright-earlier", "NoncurrentVersionExpiration", "NoncurrentDays"),
    "uploads_days": ("rackwright-uploads", "AbortIncompleteMultipartUpload", "DaysAfterInitiation"),
}
"""Id, action and key of the lifecycle rule of each age in `Expiry`. A rule has one action, so that each age differs
by itself."""
PolicyUsers = Literal["arn", "access_key", "minio"]
"""Forms of users in policies. Amazon's is the name of a resource; some servers know the access key alone. MinIO has no
users in policies of buckets, and attaches policies to users."""
ListingOrder = Literal["by_byte", "by_folder"]
"""Orders of keys in listings. S3 has the bytes of keys. SeaweedFS lists `x/a` before `x-1`, folder by folder."""
BY_FOLDER = "SeaweedFS"
"""Start of the name of the server that lists by folder."""
Right = Literal["read", "read_current", "write"]
"""Rights on a bucket. Only `read` covers earlier versions, and `write` covers no deletion."""
ALLOWED: Mapping[Right, tuple[str, ...]] = {
    "read_current": ("get", "list"),
    "read": ("get", "get versions", "list", "list versions"),
    "write": ("get", "list", "put"),
}
"""The operations of `TRIED` that a right covers, sorted."""
ALSO_ALLOWED: Mapping[PolicyUsers, tuple[str, ...]] = {"minio": ("list versions",)}
"""Operations that a server allows with each right: MinIO lists versions for each user that may list."""
TRIED = ("list", "list versions", "get", "get versions", "put", "put trusted", "delete versions", "read policy")
"""Operations that are tried with the key of a user. Each has a request that changes nothing if the store allows it."""


def allowed_operations(right: Right | None, policy_users: PolicyUsers) -> tuple[str, ...]:
    """Return the operations of `TRIED` that a user with *right* may do, sorted; none without a right."""
    return tuple(sorted({*ALLOWED[right], *ALSO_ALLOWED.get(policy_users, ())})) if right else ()


def _bucket_name(name: str) -> str:
    # dots are valid in S3, and no TLS certificate of a store covers them
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name):
        expected = "a bucket's name has 3 to 63 small letters, digits and inner hyphens"
        raise Problem(f"got the name {name!r}", expected, "Give it another name", source=RULES)
    return name


def is_internal(key: str) -> bool:
    """Return whether *key* may name one of the store's own files."""
    return any(fnmatchcase(part, glob) for part in key.split("/") for glob in INTERNAL_PARTS)


def is_loopback(url: str) -> bool:
    """Return whether *url* names this computer itself."""
    host = ""
    try:
        host = parse_url(url).hostname or ""
        return parse_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(text: str) -> str:
    if wrong := FORMATS["url"].problem(text):
        raise wrong
    if not text.startswith("https://") and not is_loopback(text):
        expected = "an address that begins with https://: plain HTTP can be read and changed on its way"
        raise Problem(f"got {text!r}", expected, "Give the store a certificate, and write https://")
    url = parse_url(text)
    if url.path.strip("/") or url.query or url.username is not None:
        raise Problem(f"got {text!r}", "an address without a path", "Remove everything after the host and port")
    return text.rstrip("/")


def _tags(tags: dict[str, str]) -> dict[str, str]:
    problems = []
    for key, value in tags.items():
        if key == OWNER_TAG:
            problems.append(Problem("got the tag of the owner", "rackwright sets this tag", "Remove it", (key,)))
        elif not re.fullmatch(r"[\w .:/=+@-]{1,128}", key) or not re.fullmatch(r"[\w .:/=+@-]{0,256}", value):
            expected = "a tag has letters, digits, blanks and . : / = + @ _ -, 128 in its key and 256 in its value"
            problems.append(Problem(f"got {key}={value}", expected, "Leave the other characters out", (key,)))
    raise_any(problems)
    return tags


StoreUrl = Annotated[str, AfterValidator(_url)]
BucketName = Annotated[str, AfterValidator(_bucket_name)]


class Credentials(Schema):
    """The account with which rackwright manages the buckets of an object store."""

    access_key: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$")
    """Access key, the public name of the account; requests and logs of the store contain it."""
    secret_key: Key
    """Secret with the account's secret key: `{secret: NAME}`."""

    @property
    def secret(self) -> str:
        """The name of the secret."""
        return str(name_of(self.secret_key))


class ObjectStore(Schema):
    """A server that speaks S3."""

    url: StoreUrl
    """Address of the server, without a bucket."""
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]+$")
    """Region in the signatures of requests; most servers on premises accept `us-east-1`."""
    ca: Certificate | None = None
    """Certificate of the authority that signed the server's certificate, in PEM; by default those of this computer."""
    credentials: Credentials
    """Account that manages the buckets."""
    account: str = Field(default="000000000000", pattern=r"^([0-9]{12})?$")
    """Account in the names of users in policies: `000000000000` for SeaweedFS, and `""` for Ceph without tenants."""
    policy_users: PolicyUsers = "arn"
    """Form of users in policies: `arn`, with `account` in it, `access_key` for Versity's gateway, or `minio`: policies
    that rackwright attaches to the users of MinIO, which knows no users in policies of buckets."""
    users: dict[str, Credentials] = Field(default_factory=dict)
    """Keys of users, by their names in `access`. `up` and the audit try with each key which rights the user has; a user
    without a key here is not tried. A store with `hosts` has the keys of the accounts of role `object_store`."""
    hosts: Many[HostName] = ()
    """Hosts of this fleet whose role `object_store` is this store; its buckets come after them."""
    encryption_key: bool = False
    """Whether the server has a key for encryption at rest. SeaweedFS without one fails all encrypted writes."""
    listing: ListingOrder = "by_byte"
    """Order of keys in the store's listings. Programs that compare two listings, such as `aws s3 sync --delete`, delete
    objects on a store `by_folder`. A store with `hosts` is one, and needs no line here."""

    @property
    def order(self) -> ListingOrder:
        """The order of keys in listings."""
        return "by_folder" if self.hosts else self.listing

    @property
    def secret_form(self) -> Form | None:
        """The form of the secret keys: those of another operator's store are issued there."""
        return None if self.hosts else FORMS["issued"]

    @property
    def secrets(self) -> Iterator[tuple[Keys, str]]:
        """The place of each secret key, and the name of its secret."""
        yield ("credentials", "secret_key"), self.credentials.secret
        for user, credentials in self.users.items():
            yield ("users", user, "secret_key"), credentials.secret


class Retention(Schema):
    """The time for which new versions of objects can be neither changed nor deleted."""

    mode: Literal["governance", "compliance"]
    """`governance` lets an account with a special right shorten the time; `compliance` lets none."""
    days: int = Field(ge=1, le=36500)
    """Days from the upload of a version."""


class Expiry(Schema):
    """The age at which the store deletes data by itself. Age counts from the upload."""

    current_days: int | None = Field(default=None, ge=1, le=36500)
    """Days until a current version is deleted; with versioning it becomes an earlier version first."""
    earlier_days: int | None = Field(default=None, ge=1, le=36500)
    """Days until an earlier version is deleted, from the upload of its successor."""
    uploads_days: Annotated[int, Field(ge=1, le=36500)] | Literal["never"] = 7
    """Days until the parts of an unfinished upload are deleted, or `never` for a store without a lifecycle."""

    def days(self, name: str) -> int | None:
        """Return the days of the age *name*; None if the store deletes nothing at that age."""
        age: int | str | None = getattr(self, name)
        return age if isinstance(age, int) else None


class Bucket(Schema):
    """A bucket of an object store."""

    store: Name
    """Object store of the bucket, one of `object_stores`."""
    versioning: bool = True
    """Whether the store keeps earlier versions of an object."""
    retention: Retention | None = None
    """Default retention of new objects; without it, objects can be deleted at any time."""
    expiry: Expiry = Expiry()
    """Ages at which the store deletes data by itself; by default only unfinished uploads."""
    encryption: Literal["none", "sse-s3"] = "none"
    """Encryption at rest by the server with its own key."""
    restore_test_days: int | None = Field(default=None, ge=1, le=3650)
    """Days within which `rackwright tier test` must have restored an archive of the bucket; without it, no limit."""
    access: dict[str, Right] = Field(default_factory=dict)
    """Rights by user of the store: `read`, `read_current` (no earlier versions) or `write` (without deletion)."""
    tags: Annotated[dict[str, str], AfterValidator(_tags)] = Field(default_factory=dict)
    """Tags of the bucket."""
    takeover: Literal["allowed"] | None = None
    """Consent that rackwright takes over a bucket that it did not create and that holds objects."""
    destroy: Literal["allowed"] | None = None
    """Consent that the removal of the bucket from the fleet deletes its objects. Retention still holds."""

    @model_validator(mode="after")
    def _retention_needs_versioning(self) -> Self:
        raise_any(_bucket_problems(self))
        return self


def _bucket_problems(bucket: Bucket) -> Iterator[Problem]:
    if bucket.retention and not bucket.versioning:
        expected = "retention protects versions, so it needs versioning"
        yield Problem("got retention without versioning", expected, "Remove versioning: false", ("retention",))
    if bucket.expiry.earlier_days and not bucket.versioning:
        expected = "a bucket without versioning has no earlier versions"
        yield Problem(f"got {bucket.expiry.earlier_days}", expected, "Remove it", ("expiry", "earlier_days"))
    for user in bucket.access:
        if not re.fullmatch(r"[A-Za-z0-9_+=,.@-]{1,64}", user):
            expected = "a user's name has letters, digits and _ + = , . @ -, 64 at most"
            yield Problem(f"got the user {user!r}", expected, "Name an account of the store", ("access", user))


def problems(
    stores: Mapping[str, ObjectStore], buckets: Mapping[str, Bucket], hosts: Mapping[str, Host]
) -> Iterator[Problem]:
    """Yield the conflicts between stores, buckets and hosts; paths are relative to the fleet."""
    for name, store in stores.items():
        for index, host in enumerate(store.hosts):
            if host not in hosts or ROLE not in hosts[host].roles:
                with_role = [each for each, declared in hosts.items() if ROLE in declared.roles]
                expected = f"a host with role {ROLE}: {', '.join(with_role) or 'none'}"
                help = hint(host, with_role, f"Give the host role {ROLE}, or remove it here", taken=store.hosts)
                yield Problem(f"got {host}", expected, help, ("object_stores", name, "hosts", index))
        if store.users and store.hosts:
            expected = f"a store without hosts: role {ROLE} has the keys of its accounts"
            yield Problem("got users", expected, "Remove users", ("object_stores", name, "users"))
        if name in hosts:
            expected = "an object store has another name than each host: both are the first part of resources' names"
            yield Problem(f"got the store {name}", expected, "Give it another name", ("object_stores", name))
    for name, bucket in buckets.items():
        if bucket.store not in stores:
            help = hint(bucket.store, stores, "Declare it under object_stores")
            expected = f"a declared object store: {', '.join(stores) or 'none'}"
            yield Problem(f"got {bucket.store!r}", expected, help, ("buckets", name, "store"))
        elif bucket.encryption != "none" and not stores[bucket.store].encryption_key:
            expected = (
                f"the store {bucket.store} has `encryption_key: true`: without a key, some servers fail all writes"
            )
            help = f"Give the server a key and add it, or remove encryption of {name}"
            yield Problem(f"got {bucket.encryption}", expected, help, ("buckets", name, "encryption"))
