"""Typed views of running services: when they began, and when they last read their files."""

from rackwright.facts.view import Fact, UnknownFact, View, texts, texts_table

ACTIVE = ("active", "reloading", "refreshing", "activating", "deactivating")
POD = "pod:"
"""Prefix of the name of a static pod's container: ``pod:kube-apiserver``."""


class ServiceFacts(View):
    """A running service, or a container of a static pod."""

    started_ns = Fact(int, "Start of the main process, in nanoseconds since 1970.")
    loaded_ns = Fact(int, "Time at which it last read its files: its start, or a later reload.")
    program_replaced = Fact(bool, "Whether the file of its program was replaced since the start.")


class HostServices(View):
    """The running services of a host."""

    group_limits = Fact(texts_table, "Frozen control groups, and limits that are not those of their units.")
    manager_environment = Fact(texts, "Variables that systemd gives to all services beside its own.")

    def differences_of(self, name: str) -> tuple[str, ...]:
        """Return how the processes of a running service differ from its unit; empty if they do not."""
        return texts(self.find("service_processes", name) or ())

    def service(self, name: str) -> ServiceFacts | None:
        """Return a running service or static pod; None if it does not run."""
        service = self.entry("loads", name, ServiceFacts)
        if service is None and not name.startswith(POD):
            unit = self.find("units", name)
            if unit is not None and View(unit, f"units.{name}").read("active") in ACTIVE:
                raise UnknownFact(f"the facts do not have the start of {name}")
        return service

    def had_content(self, path: str, at_ns: int) -> bool:
        """Return whether a changed file is known to have had its present content at a time.

        Raises:
            UnknownFact: The facts have another form than the probe writes.
        """
        spans = self.find("same_content", path) or []
        try:
            return any(start <= at_ns <= end for start, end in spans)
        except (TypeError, ValueError):
            raise UnknownFact(f"same_content.{path} has a value of another form than the probe writes") from None

    def changed_ns(self, path: str) -> int | None:
        """Return when a file or directory last changed in any way; None if that was before the host's start.

        A link counts by itself, without its target.
        """
        changed = self.find("changed_files", path)
        if changed is None:
            return None
        if not isinstance(changed, int) or isinstance(changed, bool):
            raise UnknownFact(f"changed_files.{path} has a value of another form than the probe writes")
        return changed
