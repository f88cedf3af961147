"""MinIO's admin API: policies of users, which MinIO enforces where it has no use for policies of buckets.

MinIO asks a bucket's policy for requests without credentials alone. The rights of a user follow from policies that are
attached to the user and to the user's groups.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote

from rackwright.errors import Diagnostic, StepFailed, command
from rackwright.facts.s3 import policy_lines
from rackwright.foreign import InvalidData, parse_object

ANSWER_BYTES = 8 << 20
"""Maximum size of an answer: a list of all policies."""
_PATH = "/minio/admin/v3"
_ARN = "arn:aws:s3:::"
_NO_USER, _NO_GROUP = "XMinioAdminNoSuchUser", "XMinioAdminNoSuchGroup"


def add_policies(client: Any, access: Mapping[str, Iterable[str]], buckets: Mapping[str, dict[str, Any]]) -> None:
    """Add to the policy of each of *buckets* the lines of the policies of users; unknown if MinIO does not tell."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        rights: Mapping[str, Any] = read_rights(client, access)
    except (BotoCoreError, ClientError, KeyError, TypeError, AttributeError) as error:
        reason = f"the policies of users, which MinIO's admin API has, cannot be read: {error}"
        rights = {name: {"unknown": reason} for name in access}
    for name, lines in rights.items():
        own = buckets[name]["policy"]
        unknown = next((each for each in (own, lines) if isinstance(each, dict)), None)
        buckets[name]["policy"] = unknown or sorted({*own, *lines})


def read_rights(client: Any, access: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the lines of the policies that users have on each bucket of *access*.

    Args:
        client: The client of an account that may read users and policies.
        access: The declared users by bucket. Users of rackwright's policies that are no longer declared count as well.

    Raises:
        ClientError: MinIO refused a request.
        BotoCoreError: It did not answer.
    """
    documents = _documents(client)
    users = {bucket: {*names, *_users_of(bucket, documents)} for bucket, names in access.items()}
    policies = {user: _policies_of(client, user) for user in sorted({user for each in users.values() for user in each})}
    return {
        bucket: sorted(
            {line for user in names for name in policies[user] for line in _lines(bucket, user, documents.get(name))}
        )
        for bucket, names in users.items()
    }


def set_rights(client: Any, id: str, Bucket: str, Policies: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each user of *Policies* that document on the bucket, and no other user any document of rackwright.

    Raises:
        StepFailed: A user does not exist, is disabled, or has rights on the bucket by a policy of others.
    """
    client.delete_bucket_policy(Bucket=Bucket)  # it would let in everybody, and no user
    documents = _documents(client)
    for user in sorted({*Policies, *_users_of(Bucket, documents)}):
        own = _name(Bucket, user)
        if (document := Policies.get(user)) is not None:
            send(client, "PUT", "add-canned-policy", {"name": own}, json.dumps(document).encode())
        info = _user(client, user)
        if document is not None:
            _check_user(id, Bucket, user, info, _others(client, Bucket, own, info, documents))
        names = [each for each in _split((info or {}).get("policyName")) if each != own]
        wanted = [*names, *([own] if document is not None else ())]
        if info is not None and wanted != _split(info.get("policyName")):
            query = {"userOrGroup": user, "isGroup": "false", "policyName": ",".join(wanted)}
            send(client, "PUT", "set-user-or-group-policy", query)
        if document is None:
            send(client, "DELETE", "remove-canned-policy", {"name": own})


def _check_user(id: str, bucket: str, user: str, info: Mapping[str, Any] | None, others: Sequence[str]) -> None:
    if info is None:
        problem, help = f"MinIO has no user {user}", f"Create it: {command('mc admin user add ALIAS {}', user)}"
    elif info.get("status") != "enabled":
        problem, help = f"the user {user} is disabled", f"Run {command('mc admin user enable ALIAS {}', user)}"
    elif others:
        problem = f"the user {user} also has rights on {bucket} by {', '.join(others)}"
        help = "Detach that policy from the user or the group with `mc admin policy detach`, and run up again"
    else:
        return
    raise StepFailed(Diagnostic(id, problem, help=help))


def _others(
    client: Any, bucket: str, own: str, info: Mapping[str, Any] | None, documents: Mapping[str, Any]
) -> list[str]:
    """Return the names of policies of others that concern the bucket, of a user and of the user's groups."""
    names = {*_split((info or {}).get("policyName")), *_of_groups(client, info)} - {own}
    return sorted(name for name in names if [*_lines(bucket, "", documents.get(name))])


def _policies_of(client: Any, user: str) -> set[str]:
    """Return the names of the policies in force for a user; none for one that does not exist or is disabled."""
    info = _user(client, user)
    if info is None or info.get("status") != "enabled":
        return set()
    return {*_split(info.get("policyName")), *_of_groups(client, info)}


def _of_groups(client: Any, info: Mapping[str, Any] | None) -> set[str]:
    found: set[str] = set()
    for name in (info or {}).get("memberOf") or ():
        group = _optional(client, "group", {"group": str(name)}, _NO_GROUP)
        if group is not None and group.get("status") == "enabled":
            found |= {*_split(group.get("policy"))}
    return found


def _user(client: Any, user: str) -> dict[str, Any] | None:
    return _optional(client, "user-info", {"accessKey": user}, _NO_USER)


def _documents(client: Any) -> dict[str, Any]:
    """Return all policies by name."""
    found = send(client, "GET", "list-canned-policies", {})
    for name, document in found.items():
        statements = document.get("Statement") if isinstance(document, Mapping) else None
        if not isinstance(statements, list) or not all(isinstance(each, Mapping) for each in statements):
            raise _invalid("list-canned-policies", f"the policy {name[:100]!r} has no list of statements")
    return found


def _invalid(path: str, reason: str) -> Exception:
    """Return the error for an answer that is not understood, which is never the answer that there is nothing."""
    from botocore.exceptions import ClientError

    error: Exception = ClientError({"Error": {"Code": "InvalidAnswer", "Message": reason}}, path)
    return error


def _lines(bucket: str, user: str, document: Any) -> Iterator[str]:
    """Yield the lines of the statements that concern a bucket; one without resources concerns every bucket."""
    for statement in (document or {}).get("Statement", ()):
        resources = statement.get("Resource") or ["*"]
        found = [each for each in ([resources] if isinstance(resources, str) else resources) if _concerns(each, bucket)]
        if found or statement.get("NotResource"):
            yield from policy_lines(
                {"Statement": [{**statement, "Resource": found, "Principal": {"AWS": [user]}}]},
            )


def _concerns(resource: str, bucket: str) -> bool:
    """Return whether *resource* is a bucket, or objects in it: MinIO's wildcards also stand for slashes.

    A variable such as `${aws:username}` stands for any text.
    """
    pattern = re.sub(r"\$\{[^}]*\}", "*", str(resource).removeprefix(_ARN))
    after_bucket = _states(pattern, bucket, {0})
    is_bucket = any(not pattern[state:].strip("*") for state in after_bucket)
    return is_bucket or bool(_states(pattern, "/", after_bucket))


def _states(pattern: str, text: str, states: set[int]) -> set[int]:
    """Return the places in *pattern* that are reached from those of *states* by *text*."""
    for sign in text:
        states = _skip_stars(pattern, states)
        states = {
            state if pattern[state] == "*" else state + 1
            for state in states
            if state < len(pattern) and pattern[state] in ("*", "?", sign)
        }
    return _skip_stars(pattern, states)


def _skip_stars(pattern: str, states: set[int]) -> set[int]:
    """Return *states* and the places behind the stars at which they are: a star also stands for no text."""
    found = set(states)
    for state in states:
        while state < len(pattern) and pattern[state] == "*":
            state += 1
            found.add(state)
    return found


def _name(bucket: str, user: str) -> str:
    """Return the name of rackwright's policy of a user on a bucket, whose name has no dots."""
    return f"rackwright.{bucket}.{quote(user, safe='')}"


def _users_of(bucket: str, documents: Mapping[str, Any]) -> set[str]:
    prefix = _name(bucket, "")
    return {unquote(name.removeprefix(prefix)) for name in documents if name.startswith(prefix)}


def _split(names: Any) -> list[str]:
    return [name for name in str(names or "").split(",") if name]


def _optional(client: Any, path: str, query: Mapping[str, str], absent: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        return send(client, "GET", path, query)
    except ClientError as error:
        if error.response["Error"]["Code"] == absent:
            return None
        raise


def send(client: Any, method: str, path: str, query: Mapping[str, str], body: bytes = b"") -> dict[str, Any]:
    """Return the answer of the admin API to a request that is signed as those of S3 are."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import ClientError

    url = f"{client.meta.endpoint_url}{_PATH}/{path}"
    request = AWSRequest(method=method, url=url, params=dict(query), data=body)
    S3SigV4Auth(client._request_signer._credentials, "s3", client.meta.region_name).add_auth(request)
    answer = client._endpoint.http_session.send(request.prepare())
    is_error = answer.status_code >= HTTPStatus.MULTIPLE_CHOICES
    try:
        content = parse_object(answer.content.decode(), ANSWER_BYTES) if answer.content.strip() else {}
    except (InvalidData, ValueError) as reason:
        if not is_error:
            raise _invalid(path, f"the answer is not understood: {reason}") from None
        content = {}
    if is_error:
        error = {"Code": str(content.get("Code", answer.status_code)), "Message": str(content.get("Message", ""))}
        metadata = {"HTTPStatusCode": answer.status_code, "HTTPHeaders": dict(answer.headers)}
        raise ClientError({"Error": error, "ResponseMetadata": metadata}, path)
    return content
