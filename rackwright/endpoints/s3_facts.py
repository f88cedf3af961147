"""The reading of an object store: all buckets that the account sees, and the features of the server."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from rackwright.endpoints import restore_result
from rackwright.endpoints.typed_answers import answer_refused
from rackwright.errors import Diagnostic
from rackwright.facts.facts import FORMAT
from rackwright.facts.s3 import policy_lines
from rackwright.foreign import parse_object, read_bounded
from rackwright.hosts.reading_threads import reading_threads
from rackwright.schema.object_store import LIFECYCLE_RULES, MINIO, RESTORE_TEST

AT_ONCE = 16
"""Requests that are sent at once."""
OWN_RULES = {id: name for name, (id, _, _) in LIFECYCLE_RULES.items()}
"""The ages that facts name, by the id of their lifecycle rule."""
CLOCK_SECONDS_MAX = 900
"""Largest difference of two clocks at which a server answers a signed request.

Source: the error RequestTimeTooSkewed of S3.
"""
OBJECT_SECONDS = 60
"""Time to read an object of at most `restore_result.BYTES_MAX`."""
RULES_SHOWN, RULE_TEXT = 3, 200
"""Most rules with one id that a value lists, and the longest text about one."""
POLICY_BYTES = 64 << 10
"""Maximum size of a policy. Amazon S3 has 20 KB."""
NOT_IMPLEMENTED = ("NotImplemented", "MethodNotAllowed", "XNotImplemented", "UnsupportedOperation")
_NOT_NAMED = "no-such-bucket"
_ABSENT = {
    "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
    "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
    "get_bucket_policy": "NoSuchBucketPolicy",
    "get_bucket_encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "get_bucket_tagging": "NoSuchTagSet",
    "get_bucket_cors": "NoSuchCORSConfiguration",
    "get_bucket_ownership_controls": "OwnershipControlsNotFoundError",
}
"""The error of an operation for a setting that the bucket does not have."""
FEATURES = {
    "versioning": "get_bucket_versioning",
    "retention": "get_object_lock_configuration",
    "lifecycle": "get_bucket_lifecycle_configuration",
    "policy": "get_bucket_policy",
    "encryption": "get_bucket_encryption",
    "tags": "get_bucket_tagging",
}
"""The features of servers, each with the operation that reads its setting."""


def read(signed: Any, unsigned: Any, key: str) -> dict[str, Any]:
    """Return the raw facts of a store.

    Args:
        signed: A client with the account's keys.
        unsigned: A client without keys.
        key: The key that signs results of restore tests.

    Raises:
        ClientError: the store refused to list the buckets.
        BotoCoreError: the store did not answer.
    """
    listing = signed.list_buckets()
    headers = listing["ResponseMetadata"]["HTTPHeaders"]
    names = [str(bucket["Name"]) for bucket in listing.get("Buckets", ())]
    if len({*names}) != len(names):
        raise answer_refused("the store lists a bucket twice")
    with reading_threads(AT_ONCE) as pool:
        features = _features(signed, pool, names)
        buckets = dict(zip(names, pool.map(lambda name: _bucket(signed, unsigned, key, name), names), strict=True))
    server = headers.get("server", "")
    if server == MINIO:
        features["upload expiry"] = False
        for bucket in buckets.values():
            bucket["policy"] = _in_force(bucket["policy"])
    return {
        "format": FORMAT,
        "taken_at": time.time(),
        "s3": {
            "server": server,
            "clock_skew_seconds": _clock_skew(headers.get("date")),
            "anonymous": _anonymous(unsigned.list_buckets),
            "features": features,
            "buckets": buckets,
        },
    }


def format_error(error: Any) -> str:
    """Return the code and the message of a ClientError."""
    answer = error.response.get("Error", {})
    return " ".join(str(part) for part in (answer.get("Code"), answer.get("Message")) if part)


def diagnose(where: str, url: str, error: Any) -> Diagnostic:
    """Return the diagnostic of an *error* of botocore that leaves the state of a store unknown."""
    from botocore.exceptions import SSLError

    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        problem, help = f"no answer from {url}: {error}", "Check the address, the server and the network between"
        if isinstance(error, SSLError):
            help = "Write the certificate of the authority that signed the server's as `ca` of the store in the fleet"
        return Diagnostic(where, problem, help=help)
    if clock := diagnose_clock(where, error):
        return clock
    code = _code(error)
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        problem = f"the store refuses the credentials: {format_error(error)}"
        return Diagnostic(where, problem, help="Correct credentials.access_key, or the value of the secret key")
    problem = f"the store refuses to list its buckets: {format_error(error)}"
    return Diagnostic(where, problem, help="Give the account the right to list and manage buckets")


def diagnose_clock(where: str, error: Any) -> Diagnostic | None:
    """Return the diagnostic of a ClientError that a wrong clock explains; None for another one.

    Some servers answer with another code, and an answer to HEAD has none. The server's clock is in every answer.
    """
    answer = error.response.get("ResponseMetadata", {})
    skew = _clock_skew(answer.get("HTTPHeaders", {}).get("date"))
    is_far = isinstance(skew, int) and abs(skew) > CLOCK_SECONDS_MAX
    if _code(error) != "RequestTimeTooSkewed" and not (is_far and answer.get("HTTPStatusCode") == 403):
        return None
    by = f"{_duration(skew)} {'ahead of' if skew > 0 else 'behind'}" if isinstance(skew, int) else "far from"
    problem = f"the server's clock is {by} the clock of this computer, so it refuses every request"
    help = "Compare `date -u` on both, set the wrong clock, and synchronise it, for example by chrony"
    return Diagnostic(where, problem, "clocks at most 15 minutes apart", help, id="store-clock")


def _duration(seconds: int) -> str:
    minutes, rest = divmod(abs(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def is_missing_feature(error: Any) -> bool:
    """Return whether the server has no such operation, by the ClientError *error*."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return _code(error) in NOT_IMPLEMENTED or bool(status == HTTPStatus.NOT_IMPLEMENTED)


def _features(client: Any, pool: ThreadPoolExecutor, names: Sequence[str]) -> dict[str, Any]:
    """Return whether the server knows each feature.

    The questions are about a bucket that does not exist, and about the first one of *names*: Versity's gateway 1.8 says
    that the bucket does not exist before it says that it has no such feature. So a store without buckets may seem to
    have more features than it has.
    """
    asked = (f"{_NOT_NAMED}-{secrets.token_hex(8)}", *names[:1])

    def is_known(operation: str) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        for bucket in asked:
            try:
                getattr(client, operation)(Bucket=bucket)
            except ClientError as error:
                if is_missing_feature(error):
                    return False
            except BotoCoreError:
                if bucket is asked[0]:
                    raise
                return True  # an odd setting of a bucket is one
        return True

    features = dict(zip(FEATURES, pool.map(is_known, FEATURES.values()), strict=True))
    return features | {"upload expiry": features["lifecycle"]}


def _bucket(signed: Any, unsigned: Any, key: str, name: str) -> dict[str, Any]:
    """Return the raw facts of a bucket; each value that could not be read is unknown."""
    settings = {feature: _setting(signed, operation, name) for feature, operation in FEATURES.items()}
    return {
        "versioning": _convert(settings["versioning"], lambda a: str(a.get("Status", "never")).lower()),
        **_convert_all(settings["retention"], ("retention_mode", "retention_days"), _retention),
        **_convert_all(settings["lifecycle"], (*OWN_RULES.values(), "other_rules"), _lifecycle),
        "policy": _convert(settings["policy"], _policy),
        "encryption": _convert(settings["encryption"], _encryption),
        "tags": _convert(settings["tags"], _tags),
        "cors": _convert(_setting(signed, "get_bucket_cors", name), _cors),
        "grants": _convert(_setting(signed, "get_bucket_acl", name), _grants),
        "ownership": _convert(_setting(signed, "get_bucket_ownership_controls", name), _ownership),
        "anonymous": _anonymous(lambda: unsigned.list_objects_v2(Bucket=name, MaxKeys=1)),
        "listing": _listing(signed, name),
        "empty": _is_empty(signed, name),
        "restore_test": _restore_test(signed, key, name),
    }


def _setting(client: Any, operation: str, bucket: str) -> Any:
    """Return the answer of *operation*; an empty one for an absent setting, and ``{"unknown": reason}``."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(client, operation)(Bucket=bucket)
    except ClientError as error:
        is_absent = _code(error) == _ABSENT.get(operation) or is_missing_feature(error)
        return {} if is_absent else _unknown_value(format_error(error))
    except BotoCoreError as error:
        return _unknown_value(str(error))


def _convert(answer: Any, convert: Callable[[Any], Any]) -> Any:
    if answer.keys() == {"unknown"}:
        return answer
    try:
        return convert(answer)
    except Exception as error:  # any: one odd bucket hides no other one
        return _unknown_value(f"the answer has another form than S3 documents: {type(error).__name__}: {error}")


def _convert_all(answer: Any, names: tuple[str, ...], convert: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Return the values of several names from one answer; all are unknown if it is."""
    values = _convert(answer, convert)
    return dict.fromkeys(names, values) if values.keys() == {"unknown"} else values


def _tags(answer: Any) -> dict[str, str]:
    pairs = [(each["Key"], each["Value"]) for each in answer.get("TagSet", ())]
    tags = dict(pairs)
    if len(tags) != len(pairs):
        raise ValueError("a tag is there twice")
    return tags


def _retention(answer: Any) -> dict[str, Any]:
    default = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    if default.get("Days") and default.get("Years"):
        raise ValueError("a default retention in days and in years")
    days = default.get("Days") or (default["Years"] * 365 if default.get("Years") else None)
    return {"retention_mode": default["Mode"].lower() if default.get("Mode") else None, "retention_days": days}


def _lifecycle(answer: Any) -> dict[str, Any]:
    """Return the days of rackwright's rules, and the ids of all other rules.

    A rule of rackwright that is there twice, or has another content, is a text in the place of its days: the store
    keeps both of two rules with one id, and the shorter age counts.
    """
    own: dict[str, list[int | str]] = {name: [] for name in OWN_RULES.values()}
    others: list[str] = []
    for rule in answer.get("Rules", ()):
        name = OWN_RULES.get(rule.get("ID", ""))
        if name is None:
            others.append(str(rule.get("ID", "without an id")))
        else:
            own[name].append(_days(rule, name))
    return {**{name: _one_age(ages) for name, ages in own.items()}, "other_rules": sorted(others)}


def _one_age(ages: Sequence[int | str]) -> int | str | None:
    if len(ages) > 1:
        shown = ", ".join(sorted(map(str, ages[:RULES_SHOWN])))
        return f"{len(ages)} rules with one id: {shown}{', …' if len(ages) > RULES_SHOWN else ''}"
    return ages[0] if ages else None


def _days(rule: Mapping[str, Any], name: str) -> int | str:
    """Return the days of a rule that is as a plan writes it; of another one, what it has beside or instead."""
    _, action, key = LIFECYCLE_RULES[name]
    content = {part: value for part, value in rule.items() if part not in ("ID", "Prefix", "Filter")}
    odd = {*content} ^ {"Status", action}
    if rule.get("Prefix") or rule.get("Filter", {}) not in ({}, {"Prefix": ""}):
        odd.add("Filter")
    if content.get("Status", "Enabled") != "Enabled":
        odd.add("Status")
    odd |= {f"{action}.{part}" for part in {*content.get(action, {key: 0})} ^ {key}}
    return f"a rule with another {', '.join(sorted(odd))}"[:RULE_TEXT] if odd else int(content[action][key])


def _policy(answer: Any) -> list[str]:
    return sorted({*policy_lines(parse_object(answer["Policy"], POLICY_BYTES))}) if answer.get("Policy") else []


def _encryption(answer: Any) -> str:
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
    algorithms = [rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] for rule in rules]
    names = {"AES256": "sse-s3", "aws:kms": "sse-kms", "aws:kms:dsse": "sse-kms"}
    if len(algorithms) > 1:
        raise ValueError(f"{len(algorithms)} rules of encryption")
    return names[algorithms[0]] if algorithms else "none"


def _cors(answer: Any) -> list[str]:
    """Return a line for each rule with which browsers let pages of other sites use the bucket."""
    rules = answer.get("CORSRules", ())
    return sorted(
        f"{' '.join(sorted(rule['AllowedMethods']))} from {' '.join(sorted(rule['AllowedOrigins']))}" for rule in rules
    )


def _ownership(answer: Any) -> str:
    """Return who owns new objects: with another value than BucketOwnerEnforced, lists at objects give rights."""
    rules = answer.get("OwnershipControls", {}).get("Rules", ())
    return ", ".join(sorted(str(rule["ObjectOwnership"]) for rule in rules)) or "none"


def _in_force(policy: Any) -> Any:
    """Return the lines of a policy of a bucket that MinIO asks: those about everybody."""
    return policy if isinstance(policy, dict) else [line for line in policy if line.split()[1] in ("*", "not")]


def _grants(answer: Any) -> list[str]:
    """Return the grants to others than the bucket's owner; MinIO names neither the owner nor the owner's grant."""
    owner = answer.get("Owner", {}).get("ID") or ""
    return sorted(_others(answer.get("Grants", ()), owner))


def _others(grants: Any, owner: Any) -> Iterator[str]:
    for grant in grants:
        grantee = grant["Grantee"]
        group, id = grantee.get("URI") or grantee.get("EmailAddress"), grantee.get("ID") or ""
        if group or id != owner:
            yield f"{(group or id or '?').rpartition('/')[2]} {grant['Permission']}"


def _listing(client: Any, bucket: str) -> Any:
    """Return the order of keys in the first page of a listing: by_byte, by_folder, or not_shown by its keys."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        page = client.list_objects_v2(Bucket=bucket)
    except ClientError as error:
        return _unknown_value(format_error(error))
    except BotoCoreError as error:
        return _unknown_value(str(error))
    return _order([str(each["Key"]) for each in page.get("Contents", ())])


def _order(keys: Sequence[str]) -> str:
    by_byte = sorted(keys, key=lambda key: key.encode())
    by_folder = sorted(keys, key=lambda key: [part.encode() for part in key.split("/")])
    if [*keys] != by_byte:
        return "by_folder"  # or another order, with the same consequence
    return "by_byte" if by_byte != by_folder else "not_shown"


def _is_empty(client: Any, bucket: str) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        versions = client.list_object_versions(Bucket=bucket, MaxKeys=1)
        uploads = client.list_multipart_uploads(Bucket=bucket, MaxUploads=1)
    except ClientError as error:
        return _unknown_value(format_error(error))
    except BotoCoreError as error:
        return _unknown_value(str(error))
    return not (versions.get("Versions") or versions.get("DeleteMarkers") or uploads.get("Uploads"))


def _restore_test(client: Any, key: str, bucket: str) -> Any:
    """Return time and result of the last restore test; None without one."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = client.get_object(Bucket=bucket, Key=RESTORE_TEST)
        content = read_bounded(answer["Body"], restore_result.BYTES_MAX, time.monotonic() + OBJECT_SECONDS)
        return restore_result.parse(key, bucket, content, answer["LastModified"].timestamp())
    except ClientError as error:
        return None if _code(error) == "NoSuchKey" else _unknown_value(format_error(error))
    except BotoCoreError as error:
        return _unknown_value(str(error))
    except Exception as error:  # any: one odd object hides no bucket
        return _unknown_value(f"{RESTORE_TEST} is no result of a test: {error}")


def _anonymous(request: Callable[[], Any]) -> Any:
    """Return whether the server answers *request*, which has no credentials: allowed or refused."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        request()
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return "refused" if status in (401, 403) else _unknown_value(format_error(error))
    except BotoCoreError as error:
        return _unknown_value(str(error))
    return "allowed"


def _clock_skew(date: str | None) -> Any:
    """Return the seconds by which the server's clock is ahead of this computer's."""
    try:
        return round((parsedate_to_datetime(str(date)) - datetime.now(UTC)).total_seconds())
    except Exception:  # a date with a day of 20 digits raises OverflowError, and others may raise more
        return _unknown_value("the server sends no date")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _unknown_value(reason: str) -> dict[str, str]:
    return {"unknown": reason}
