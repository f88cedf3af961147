"""The view of a model server on a host."""

from collections.abc import Mapping
from typing import Any

from rackwright.facts.view import Fact, View, optional, texts


class ServerFacts(View):
    """A model server that rackwright installed on this host."""

    ready = Fact(bool, "Whether the server reports that it accepts requests.")
    version = Fact(optional, "Version of the model that the server reports; None without an answer.")
    why = Fact(optional, "Reason why the server is not ready.")
    release = Fact(optional, "Release that the server was last switched to.")
    previous = Fact(optional, "Version of the previous model, which stays on the host.")

    @property
    def models(self) -> Mapping[str, str]:
        """State of the files of each model version: `whole`, or the fault."""
        return self.table("models")

    has_state = Fact(bool, "Whether the file with the previous and the last refused release is there.")
    others = Fact(texts, "Files in its directory that no release uses, by their paths there.")

    @property
    def manifests(self) -> Mapping[str, str]:
        """Digest of the model.json of each model version."""
        return self.table("manifests")

    @property
    def canary_rows(self) -> Mapping[str, str]:
        """State of each file with a canary's rows: `whole`, or the fault."""
        return self.table("canary_rows")

    @property
    def adapters(self) -> Mapping[str, str]:
        """State of the files of each adapter's version: `whole`, or the fault."""
        return self.table("adapters")

    @property
    def loaded_adapters(self) -> Mapping[str, str]:
        """Directory of each adapter that the server has loaded, by name; empty without an answer."""
        return self.table("loaded_adapters")

    @property
    def failed_release(self) -> Mapping[str, str] | None:
        """Last release that failed to serve, unless a later release serves: release, version, why."""
        return None if self.read("refused") is None else self.table("refused")

    @property
    def accuracy(self) -> Mapping[str, Any] | None:
        """Latest record of the accuracy watch; None before the first: found and before (accuracy, at, version), least,
        why_not."""
        return None if self.read("accuracy") is None else self.table("accuracy")

    @property
    def figures(self) -> Mapping[str, Any]:
        """Counts since the start of the server: requests, p50_ms and p99_ms of inference requests, waiting."""
        return self.table("figures")


class HostServers(View):
    """The model servers of a host."""

    def server(self, name: str) -> ServerFacts | None:
        """Return the model server with this name; None if the host has none."""
        return self.entry("servers", name, ServerFacts)
