"""Typed views of an object store on a host: how it writes, and the settings that its own shell changes."""

from functools import cached_property

from rackwright.facts.view import Fact, View, mapping, texts


class StoredBucket(View):
    """A bucket, as the store's own shell shows it."""

    tags = Fact(mapping, "Values by key.")
    set = Fact(texts, "Settings that S3 does not show, such as a quota, sorted.")


class StoreSettings(View):
    """The settings of a store, as its own shell shows them on the host with the names."""

    rules = Fact(texts, "Rules for paths, such as `/buckets/models/ ttl=1m`, sorted.")
    accounts = Fact(
        texts, "Accounts that the store keeps, with keys and rights, and everything else that gives rights, sorted."
    )
    stored = Fact(texts, "Settings that the store keeps as files, besides its rules for paths, sorted.")
    volumes = Fact(texts, "Number of copies and expiry of the volumes, by bucket, sorted.")

    @cached_property
    def buckets(self) -> dict[str, StoredBucket]:
        """All buckets, by name. Raises UnknownFact."""
        place = f"{self._where}.buckets"
        return {name: StoredBucket(raw, f"{place}.{name}") for name, raw in sorted(self.table("buckets").items())}


class ObjectStoreFacts(View):
    """The part of an object store on one host."""

    buffered = Fact(texts, "Files whose writes the kernel keeps in memory for a while; the first few only.")

    rights = Fact(texts, "Files that other accounts can use, each with its owner, mode or list; the first few only.")

    @cached_property
    def settings(self) -> StoreSettings:
        """The settings of the store; unknown on a host without the names."""
        return StoreSettings(self.read("settings"), f"{self._where}.settings")
