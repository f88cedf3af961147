"""The client of an object store: reads its facts, and sends the requests of plans."""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from rackwright import extras, scratch
from rackwright.core.contract import Call
from rackwright.core.derived_key import derive_key
from rackwright.endpoints import minio, restore_result, s3_facts, s3_rights
from rackwright.endpoints.bounded_session import BoundedSession
from rackwright.endpoints.proxy import open_proxy
from rackwright.endpoints.typed_answers import type_answers
from rackwright.errors import Diagnostic, EndpointUnreachable, StepFailed
from rackwright.facts.facts import Facts
from rackwright.schema.object_store import ObjectStore
from rackwright.stack import Stack
from rackwright.stack.buckets import store_users

CONNECT_SECONDS = 5
ANSWER_SECONDS = 60
ATTEMPTS = 3
FIRST_SECONDS, FIRST_ATTEMPTS = 15, 2
"""The same for the first request of a reading, which finds out whether the store answers at all."""


def connect(stack: Stack, name: str) -> "S3Client":
    """Return the client of the object store *name* of *stack*.

    Raises:
        EndpointUnreachable: the secret key has no known value, or the store has no address.
        SetupError: boto3 is not installed.
    """
    store, url = stack.fleet.object_stores[name], stack.store_urls.get(name)
    where = f"s3:{name}"
    secret_key = stack.repository.secrets.get(store.credentials.secret)
    if url is None:
        problem, help = "the address of the store is unknown", "Add it to the settings of the stack"
        raise EndpointUnreachable(Diagnostic(where, problem, help=help))
    if secret_key is None:
        problem = f"the value of the secret {store.credentials.secret} is unknown"
        help = "Run the command where it can read the secrets of the stack"
        raise EndpointUnreachable(Diagnostic(where, problem, help=help))
    host = stack.store_hosts.get(name)
    key = derive_key(stack.repository, store.credentials.secret, [restore_result.PURPOSE, name])
    assert key is not None, "the secret is known"
    proxy = open_proxy(stack, host, url) if host else None
    return S3Client(where, url, store, secret_key, key, proxy, _access(stack, name))


def _access(stack: Stack, name: str) -> "Access":
    """Return the users of the store *name*, with their keys where these are known, and the declared rights."""
    keys = {
        user: (access_key, stack.repository.secrets.get(secret), secret)
        for user, (access_key, secret) in store_users(stack.fleet, name).items()
    }
    buckets = {each: tuple(its.access) for each, its in stack.fleet.buckets.items() if its.store == name}
    return Access(keys, buckets)


@dataclass(frozen=True)
class Access:
    """The users of a store, and the buckets on which they have rights."""

    keys: Mapping[str, tuple[str, str | None, str]] = field(default_factory=dict)
    """Access key, secret key, and name of its secret, by user. A secret key without a known value is None."""
    buckets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Declared users by bucket."""


class S3Client:
    """One account's connection to an object store. Any thread may use it."""

    def __init__(
        self,
        where: str,
        url: str,
        store: ObjectStore,
        secret_key: str,
        signing_key: str,
        proxy: str | None = None,
        access: "Access | None" = None,
    ) -> None:
        """
        Args:
            where: The store in messages.
            url: Its address, which may be that of a stand-in.
            signing_key: The key that signs results of restore tests.
            proxy: The address of an HTTP proxy that reaches the store; None for none.
            access: The users whose rights are read and tried; None for none.
        """
        self.signing_key = signing_key
        self._where, self._url = where, url
        self._certificates = _authority(store.ca)
        make = session(store.region, url, self._certificates, proxy)
        self.signed = make(store.credentials.access_key, secret_key)
        self._first = make(store.credentials.access_key, secret_key, first=True)
        self._unsigned = make(None, None)
        self._access, self._of_minio = access or Access(), store.policy_users == "minio"
        self._users = {
            user: f"the value of the secret {secret} is unknown" if key is None else make(access_key, key)
            for user, (access_key, key, secret) in self._access.keys.items()
        }

    def read(self) -> Facts:
        """Return all facts of the store that the account sees."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._first.list_buckets()
            raw = s3_facts.read(self.signed, self._unsigned, self.signing_key)
            self._read_rights(raw["s3"]["buckets"])
            return Facts(raw)
        except (BotoCoreError, ClientError) as error:
            raise EndpointUnreachable(s3_facts.diagnose(self._where, self._url, error)) from error

    def _read_rights(self, buckets: dict[str, Any]) -> None:
        """Add to *buckets* what the declared users may do with them."""
        declared = {name: users for name, users in self._access.buckets.items() if name in buckets}
        if self._of_minio:
            minio.add_policies(self.signed, declared, buckets)
        for name, rights in s3_rights.try_rights(self.signed, self._users, tuple(declared)).items():
            buckets[name]["rights"] = rights

    def call(self, id: str, step: Call) -> None:
        """Send the request of *step*."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if own := OPERATIONS.get(step.operation):
                own(self.signed, id, **step.parameters)
            else:
                getattr(self.signed, step.operation)(**step.parameters)
        except ClientError as error:
            if clock := s3_facts.diagnose_clock(id, error):
                raise EndpointUnreachable(clock) from error
            problem = f"the store refused to {step.text}: {s3_facts.format_error(error)}"
            help = "Check the account's rights and the server's log, and run the same command again"
            if s3_facts.is_missing_feature(error):
                help = "Remove the setting from the bucket, or use a store that has it"
            raise StepFailed(Diagnostic(id, problem, help=help)) from error
        except BotoCoreError as error:
            raise EndpointUnreachable(s3_facts.diagnose(self._where, self._url, error)) from error


class MakeClient(Protocol):
    """A function that returns a client of a store."""

    def __call__(self, access_key: str | None, secret_key: str | None, first: bool = False) -> Any: ...


def session(region: str, url: str, certificates: str | bool, proxy: str | None = None) -> "MakeClient":
    """Return a function of an access key and a secret key that returns a client; without keys, an anonymous one.

    A client for the first request waits less for an answer. The operator's own files and variables for other clouds
    have no effect.
    """
    try:
        import botocore.session
        from botocore import UNSIGNED
        from botocore.config import Config
    except ImportError:
        extras.S3.require("object_stores", "the library for object stores")
        raise

    def make(access_key: str | None, secret_key: str | None, first: bool = False) -> Any:
        own = botocore.session.Session()
        own.register_component("data_loader", _data_loader())
        own.set_config_variable("config_file", os.devnull)
        own.set_config_variable("credentials_file", os.devnull)
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=FIRST_SECONDS if first else ANSWER_SECONDS,
            retries={"total_max_attempts": FIRST_ATTEMPTS if first else ATTEMPTS, "mode": "standard"},
            s3={"addressing_style": "path"},
            max_pool_connections=s3_facts.AT_ONCE,
            proxies={"http": proxy, "https": proxy} if proxy else None,
            signature_version="s3v4" if access_key else UNSIGNED,
        )
        keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
        client = own.create_client("s3", region, endpoint_url=url, verify=certificates, config=config, **keys)
        endpoint = client._endpoint
        endpoint.http_session = BoundedSession(endpoint.http_session)
        type_answers(client)
        return client

    return make


@cache
def _data_loader() -> Any:
    """Return what reads botocore's descriptions of S3, and keeps them: they are most of the time of a new client."""
    from botocore.loaders import create_loader

    return create_loader()


def _authority(certificate: str | None) -> str | bool:
    """Return the file with *certificate*, which stays until the process ends; True for those of this computer."""
    if certificate is None:
        return True
    path = scratch.of_process() / f"{secrets.token_hex(8)}.pem"
    path.write_text(certificate)
    return str(path)


def _empty(client: Any, id: str, Bucket: str) -> None:
    """Delete all versions and unfinished uploads of a bucket. Retention is never bypassed.

    Raises:
        StepFailed: the store keeps versions, for example under retention.
    """
    kept: dict[str, str] = {}
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=Bucket):
        for upload in page.get("Uploads", ()):
            client.abort_multipart_upload(Bucket=Bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in client.get_paginator("list_object_versions").paginate(Bucket=Bucket):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        objects = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
        if objects:
            answer = client.delete_objects(Bucket=Bucket, Delete={"Objects": objects, "Quiet": True})
            kept |= {each["Key"]: each.get("Message", each["Code"]) for each in answer.get("Errors", ())}
    if kept:
        key, reason = next(iter(kept.items()))
        problem = f"the store keeps {len(kept)} objects, the first is {key}: {reason}"
        help = "Wait until their retention ends, and remove the bucket then"
        raise StepFailed(Diagnostic(id, problem, help=help))


OPERATIONS: Mapping[str, Callable[..., None]] = {"empty_bucket": _empty, "set_user_rights": minio.set_rights}
"""Operations that take several requests, by the name that plans use."""
