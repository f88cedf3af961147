"""MinIO's admin API: policies of users, which MinIO enforces where it has no use for policies of buckets.

MinIO asks a bucket's policy for requests without credentials alone. The rights of a user follow from policies that are
attached to the user and to the user's groups.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote

from rackwright.endpoints.bounded_session import IS_ENCRYPTED
from rackwright.endpoints.minio_cipher import decrypt
from rackwright.errors import Diagnostic, StepFailed, command
from rackwright.facts.s3 import policy_lines
from rackwright.foreign import InvalidData, parse_object

ANSWER_BYTES = 8 << 20
"""Maximum size of an answer: a list of all policies."""
USERS_MAX, LINES_MAX = 1000, 10_000
"""Users of a server whose rights are read, and lines of a bucket: each user costs a request for each of the groups."""
RESOURCE_MAX = 2048
"""Characters of a resource: a bucket has 63 and a key 1024, and an answer has many resources."""
_PATH = "/minio/admin/v3"
_ARN = "arn:aws:s3:::"
_NO_USER, _NO_GROUP = "XMinioAdminNoSuchUser", "XMinioAdminNoSuchGroup"
_STATEMENT = {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"}


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

    All users of the server count, other than the account itself: an undeclared one is a line that no declaration has.

    Args:
        client: The client of an account that may read users and policies.
        access: The declared users by bucket.

    Raises:
        ClientError: MinIO refused a request, or its answer is not understood.
        BotoCoreError: It did not answer.
    """
    documents = _documents(client)
    declared = {user for names in access.values() for user in names}
    policies = _policies(client, declared)
    return {bucket: _sort_lines(_lines_of_bucket(bucket, policies, documents)) for bucket in access}


def _policies(client: Any, declared: Iterable[str]) -> dict[str, set[str]]:
    """Return the names of the policies in force by user: of all users, other than the account itself if undeclared."""
    users = _users(client)
    own = client_keys(client)[0]
    groups: dict[str, set[str]] = {}
    return {user: _policies_of(client, info, groups) for user, info in users.items() if user != own or user in declared}


def _lines_of_bucket(bucket: str, policies: Mapping[str, set[str]], documents: Mapping[str, Any]) -> Iterator[str]:
    concerned = {name: [*_statements(bucket, documents.get(name))] for each in policies.values() for name in each}
    for user, names in policies.items():
        for name in names:
            for statement in concerned[name]:
                yield from policy_lines({"Statement": [{**statement, "Principal": {"AWS": [user]}}]})


def _sort_lines(lines: Iterator[str]) -> list[str]:
    """Return *lines* sorted: actions, resources and users multiply."""
    found = [*islice(lines, LINES_MAX + 1)]
    if len(found) > LINES_MAX:
        raise _invalid("list-canned-policies", f"the policies have more than {LINES_MAX} lines of one bucket")
    return sorted({*found})


def set_rights(client: Any, id: str, Bucket: str, Policies: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each user of *Policies* that document on the bucket, and no other user any document of rackwright.

    Raises:
        StepFailed: A user does not exist, is disabled, or has rights on the bucket by a policy of others; or a user
            that *Policies* does not name has rights on the bucket.
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
    _check_others(client, id, Bucket, Policies)


def _check_others(client: Any, id: str, bucket: str, declared: Iterable[str]) -> None:
    documents = _documents(client)
    for user, names in sorted(_policies(client, declared).items()):
        by = sorted(name for name in names if any(_statements(bucket, documents.get(name))))
        if by and user not in declared:
            problem = f"the user {user}, whom `access` does not name, has rights on {bucket} by {', '.join(by)}"
            help = "Detach that policy with `mc admin policy detach`, or name the user in `access`, and run up again"
            raise StepFailed(Diagnostic(id, problem, help=help))


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
    return sorted(name for name in names if any(_statements(bucket, documents.get(name))))


def _policies_of(client: Any, info: Mapping[str, Any], groups: dict[str, set[str]]) -> set[str]:
    """Return the names of the policies in force for a user; none for a disabled one.

    Args:
        groups: The policies of groups that were read before, by name.
    """
    return {*_split(info.get("policyName")), *_of_groups(client, info, groups)} if _is_enabled(info) else set()


def _of_groups(client: Any, info: Mapping[str, Any] | None, known: dict[str, set[str]] | None = None) -> set[str]:
    groups = {} if known is None else known
    members = (info or {}).get("memberOf") or []
    if not isinstance(members, list) or not all(isinstance(name, str) for name in members):
        raise _invalid("user-info", "the groups of a user are no list of names")
    if len({*members, *groups}) > USERS_MAX:
        raise _invalid("user-info", f"users are in more than {USERS_MAX} groups")
    for name in members:
        if name not in groups:
            group = _optional(client, "group", {"group": name}, _NO_GROUP)
            groups[name] = {*_split(group.get("policy"))} if group is not None and _is_enabled(group) else set()
    return {policy for name in members for policy in groups[name]}


def _is_enabled(info: Mapping[str, Any]) -> bool:
    """Return whether a user or a group is enabled; another word than MinIO's two is not understood."""
    status = info.get("status")
    if status not in ("enabled", "disabled"):
        raise _invalid("user-info", f"the status of a user or a group is {status!r:.100}")
    return bool(status == "enabled")


def _user(client: Any, user: str) -> dict[str, Any] | None:
    return _optional(client, "user-info", {"accessKey": user}, _NO_USER)


def _users(client: Any) -> dict[str, dict[str, Any]]:
    """Return all users with their policies and groups; those of LDAP and OpenID are not among them."""
    found = send(client, "GET", "list-users", {}, b"", True)
    if len(found) > USERS_MAX:
        raise _invalid("list-users", f"the server has more than {USERS_MAX} users")
    if not all(isinstance(info, dict) for info in found.values()):
        raise _invalid("list-users", "a user is no object")
    return found


def _documents(client: Any) -> dict[str, Any]:
    """Return all policies by name."""
    found = send(client, "GET", "list-canned-policies", {})
    for name, document in found.items():
        statements = document.get("Statement") if isinstance(document, Mapping) else None
        if not isinstance(statements, list) or not all(isinstance(each, Mapping) for each in statements):
            raise _invalid("list-canned-policies", f"the policy {name[:100]!r} has no list of statements")
        if not all(map(_is_statement, statements)):
            raise _invalid("list-canned-policies", f"a statement of the policy {name[:100]!r} is not understood")
    return found


def _is_statement(statement: Mapping[str, Any]) -> bool:
    texts = [statement.get(key) for key in ("Action", "NotAction", "Resource", "NotResource")]
    lists = [[] if each is None else each if isinstance(each, list) else [each] for each in texts]
    return (
        statement.keys() <= _STATEMENT
        and statement.get("Effect") in ("Allow", "Deny")
        and all(isinstance(text, str) and len(text) <= RESOURCE_MAX for each in lists for text in each)
    )


def _invalid(path: str, reason: str) -> Exception:
    """Return the error for an answer that is not understood, which is never the answer that there is nothing."""
    from botocore.exceptions import ClientError

    error: Exception = ClientError({"Error": {"Code": "InvalidAnswer", "Message": reason}}, path)
    return error


def _statements(bucket: str, document: Any) -> Iterator[dict[str, Any]]:
    """Yield the statements that concern a bucket, each with its resources that do.

    A statement without resources concerns every bucket.
    """
    for statement in (document or {}).get("Statement", ()):
        resources = statement.get("Resource") or ["*"]
        found = [each for each in ([resources] if isinstance(resources, str) else resources) if _concerns(each, bucket)]
        if found or statement.get("NotResource"):
            yield {**statement, "Resource": found}


def _concerns(resource: str, bucket: str) -> bool:
    """Return whether *resource* is a bucket, or objects in it: MinIO's wildcards also stand for slashes.

    A variable such as `${aws:username}` stands for any text.
    """
    # one star has the meaning of several
    pattern = re.sub(r"\*+", "*", re.sub(r"\$\{[^{}]*\}", "*", resource.removeprefix(_ARN)))
    after_bucket = _states(pattern, bucket, 1)
    ends = (1 << len(pattern)) | (1 << len(pattern) - 1 if pattern.endswith("*") else 0)
    return bool(after_bucket & ends or _states(pattern, "/", after_bucket))


def _states(pattern: str, text: str, states: int) -> int:
    """Return the places in *pattern* that are reached from those of *states* by *text*, each place a bit."""
    stars = _places(pattern, "*")
    stepping = {sign: _places(pattern, sign) | _places(pattern, "?") for sign in {*text}}
    states |= (states & stars) << 1  # a star also stands for no text
    for sign in text:
        states = states & stars | (states & stepping[sign] & ~stars) << 1
        states |= (states & stars) << 1
    return states


def _places(pattern: str, sign: str) -> int:
    """Return the places of *sign* in *pattern*, each a bit."""
    return int("".join("1" if each == sign else "0" for each in reversed(pattern)) or "0", 2)


def _name(bucket: str, user: str) -> str:
    """Return the name of rackwright's policy of a user on a bucket, whose name has no dots."""
    return f"rackwright.{bucket}.{quote(user, safe='')}"


def _users_of(bucket: str, documents: Mapping[str, Any]) -> set[str]:
    prefix = _name(bucket, "")
    return {unquote(name.removeprefix(prefix)) for name in documents if name.startswith(prefix)}


def _split(names: Any) -> list[str]:
    if not isinstance(names or "", str):
        raise _invalid("user-info", "the policies of a user or a group are no text")
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def client_keys(client: Any) -> tuple[str, str]:
    """Return the access key and the secret key of *client*."""
    credentials = client._request_signer._credentials
    return str(credentials.access_key), str(credentials.secret_key)


def _optional(client: Any, path: str, query: Mapping[str, str], absent: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        return send(client, "GET", path, query)
    except ClientError as error:
        if error.response["Error"]["Code"] == absent:
            return None
        raise


def send(
    client: Any, method: str, path: str, query: Mapping[str, str], body: bytes = b"", encrypted: bool = False
) -> dict[str, Any]:
    """Return the answer of the admin API to a request that is signed as those of S3 are.

    Args:
        encrypted: Whether MinIO encrypts the answer under the secret key of the client.
    """
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import ClientError

    url = f"{client.meta.endpoint_url}{_PATH}/{path}"
    request = AWSRequest(method=method, url=url, params=dict(query), data=body)
    S3SigV4Auth(client._request_signer._credentials, "s3", client.meta.region_name).add_auth(request)
    prepared = request.prepare()
    setattr(prepared, IS_ENCRYPTED, encrypted)
    answer = client._endpoint.http_session.send(prepared)
    is_error = answer.status_code >= HTTPStatus.MULTIPLE_CHOICES
    try:
        plain = decrypt(answer.content, client_keys(client)[1]) if encrypted and not is_error else answer.content
        content = parse_object(plain.decode(), ANSWER_BYTES) if plain.strip() else {}
    except (InvalidData, ValueError) as reason:
        if not is_error:
            raise _invalid(path, f"the answer is not understood: {reason}") from None
        content = {}
    if is_error:
        error = {"Code": str(content.get("Code", answer.status_code)), "Message": str(content.get("Message", ""))}
        metadata = {"HTTPStatusCode": answer.status_code, "HTTPHeaders": dict(answer.headers)}
        raise ClientError({"Error": error, "ResponseMetadata": metadata}, path)
    return content
