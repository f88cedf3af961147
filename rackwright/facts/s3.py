"""Typed views of the facts that one reading of an object store gave."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from rackwright.facts.view import Fact, View, mapping, optional, optional_mapping, optional_number, texts
from rackwright.schema.object_store import BY_FOLDER


def days_or_text(value: Any) -> int | str | None:
    """Return days, None, or the text about a rule that has another form."""
    return value if isinstance(value, str) else optional_number(value)


class BucketFacts(View):
    """A bucket."""

    versioning = Fact(str, "enabled, suspended or never.")
    encryption = Fact(str, "none, sse-s3 or sse-kms.")
    policy = Fact(texts, "The policy, one line for each effect, principal, action and resource, sorted.")
    grants = Fact(texts, "Grants of the access control list to other accounts, sorted.")
    ownership = Fact(str, "Owner of new objects, such as BucketOwnerEnforced; none without such a setting.")
    cors = Fact(texts, "Rules for pages of other sites in browsers, such as `GET from *`, sorted.")
    anonymous = Fact(str, "The answer to a listing without credentials: refused or allowed.")
    listing = Fact(str, "Order of keys in the first page of a listing: by_byte, by_folder, or not_shown by its keys.")
    empty = Fact(bool, "Whether the bucket has no version of an object, no delete marker and no unfinished upload.")
    tags = Fact(mapping, "Values by key.")
    retention_mode = Fact(optional, "Mode of the default retention, governance or compliance; None without one.")
    retention_days = Fact(optional_number, "Days of the default retention from the upload; a year counts as 365.")
    current_days = Fact(
        days_or_text, "Days until a current version is deleted; None for no rule, a text for an odd one."
    )
    earlier_days = Fact(
        days_or_text, "Days until an earlier version is deleted; None for no rule, a text for an odd one."
    )
    uploads_days = Fact(
        days_or_text, "Days until an unfinished upload is deleted; None for no rule, a text for an odd one."
    )
    restore_test = Fact(optional_mapping, "Time `at` and result `passed` of the last restore test; None without one.")
    other_rules = Fact(texts, "Ids of the lifecycle rules that are not of rackwright, sorted.")

    def rights(self, user: str) -> tuple[str, ...]:
        """Return the operations that the store allows *user*, sorted. Raises UnknownFact."""
        return View(self.table("rights"), f"{self._where}.rights").value(user, texts)


class S3Facts(View):
    """An object store, as one account sees it."""

    server = Fact(str, "Name and version of the server in its own words; empty if it does not tell.")
    clock_skew_seconds = Fact(int, "The server's clock minus this computer's.")
    anonymous = Fact(str, "The answer to a listing of buckets without credentials: refused or allowed.")

    @property
    def listing(self) -> str:
        """The order of keys in listings: by_byte, by_folder, or not_shown by any bucket. Raises UnknownFact."""
        if self.server.startswith(BY_FOLDER):
            return "by_folder"
        found = {bucket.listing for name in self.buckets if (bucket := self.bucket(name)) is not None}
        return next((order for order in ("by_folder", "by_byte") if order in found), "not_shown")

    def feature(self, name: str) -> bool:
        """Return whether the server knows the feature *name*, or raise UnknownFact."""
        return View(self.table("features"), f"{self._where}.features").value(name, bool)

    def bucket(self, name: str) -> BucketFacts | None:
        """Return the bucket *name*; None if the account sees no such bucket. Raises UnknownFact."""
        return self.entry("buckets", name, BucketFacts)

    @property
    def buckets(self) -> tuple[str, ...]:
        """The names of all buckets that the account sees. Raises UnknownFact."""
        return tuple(sorted(self.table("buckets")))


class EndpointFacts(View):
    """The parts of facts that come from endpoints."""

    @cached_property
    def s3(self) -> S3Facts:
        """The object store; unknown in the facts of a host."""
        return S3Facts(self.read("s3"), "facts.s3")


def policy_lines(policy: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each effect, principal, action and resource of *policy*, a document of IAM."""
    for statement in _list(policy.get("Statement")):
        names = {key: _list(value) for key, value in statement.items()}
        condition = f" if {_flat(statement['Condition'])}" if statement.get("Condition") else ""
        for principal in _principals(statement):
            for action in (*names.get("Action", ()), *(f"not {each}" for each in names.get("NotAction", ()))):
                resources = (*names.get("Resource", ()), *(f"not {each}" for each in names.get("NotResource", ())))
                for resource in resources:
                    yield f"{statement.get('Effect')} {principal} {action} {resource}{condition}"


def _principals(statement: Mapping[str, Any]) -> Iterator[str]:
    for key, prefix in (("Principal", ""), ("NotPrincipal", "not ")):
        value = statement.get(key, {})
        for kind, names in value.items() if isinstance(value, Mapping) else [("AWS", value)]:
            for name in _list(names):
                yield f"{prefix}{name}" if kind == "AWS" else f"{prefix}{kind} {name}"


def _list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _flat(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
