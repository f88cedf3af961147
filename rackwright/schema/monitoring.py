"""Monitoring of a fleet: the host that runs it, its retention, and the receivers of alerts."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rackwright.schema.base import Count, Many, Schema
from rackwright.schema.formats import FORMATS, parse_address
from rackwright.schema.host import HostName, Name
from rackwright.schema.problem import Problem, hint, raise_any
from rackwright.schema.secret import FORMS, SHORTEST, Form, Key, name_of
from rackwright.schema.units import Size, format_size

KEY_SHORTEST = 32
"""Minimum length of the secret from which all certificates follow."""
RESERVED = ("heartbeat", "none", "quarantine")
"""Names of receivers that role alertmanager makes by itself."""
MAIL_ADDRESS = r"[\w.!#$%&'*+/=?^`|~-]+@[\w.-]+"
"""Alertmanager fills placeholders in braces with labels of alerts, which hosts choose."""
Severity = Literal["critical", "warning", "info"]


def _address(text: str) -> str:
    expected = "an IP address of the host"
    if FORMATS["address"].problem(text):
        raise Problem(f"got {text!r}", expected, "Write it like 10.1.0.11")
    address = parse_address(text)
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        raise Problem(f"got {text!r}", f"{expected} that the monitoring host reaches", "Write it like 10.1.0.11")
    return text


def _mail_address(text: str) -> str:
    if not re.fullmatch(MAIL_ADDRESS, text):
        raise Problem(f"got {text!r}", "an e-mail address", "Write it like operators@example.org")
    return text


def _mail_server(text: str) -> str:
    name, _, port = text.rpartition(":")
    if FORMATS["host"].problem(name) or not re.fullmatch("[1-9][0-9]{0,4}", port) or ":" in name:
        raise Problem(f"got {text!r}", "a host and a port", "Write it like mail.example.org:587")
    return text


class Email(Schema):
    """An e-mail receiver."""

    to: Annotated[str, AfterValidator(_mail_address)]
    """Address of the receiver."""
    sender: Annotated[str, AfterValidator(_mail_address)]
    """Address of the sender."""
    server: Annotated[str, AfterValidator(_mail_server)]
    """Host and port of the mail server."""
    user: str | None = None
    """Account of the mail server."""
    password: Key | None = None
    """Secret with the password of the account: `{secret: NAME}`."""

    @model_validator(mode="after")
    def _account_is_whole(self) -> Self:
        if (self.user is None) != (self.password is None):
            found = "a user without a password" if self.user else "a password without a user"
            expected = "an account has a user and a password"
            raise Problem(f"got {found}", expected, "Add the other one, or leave both out")
        return self


class Receiver(Schema):
    """A receiver of alerts."""

    url: Key | None = None
    """Secret with the URL of a webhook: `{secret: NAME}`."""
    email: Email | None = None
    """Receiver by e-mail."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.url is None and self.email is None:
            help = "Write `url: {secret: alerts_url}`"
            raise Problem("got neither url nor email", "a receiver has a webhook, an e-mail address or both", help)
        return self


class Route(Schema):
    """The receiver of the alerts of one severity."""

    severity: Severity
    """Severity of the alerts."""
    receiver: Name
    """One of `receivers`."""


JOURNAL_SMALLEST = Size("512MiB")
"""Four files of 128 MiB. Two are being written or just full, and one more is deleted for some bytes of metadata."""


def _journal_size(size: Size) -> Size:
    if size < JOURNAL_SMALLEST:
        expected = "512MiB or more: a file has up to 128MiB, and a journal four files"
        raise Problem(f"got {format_size(size)}", expected, "Leave it out for 2GiB")
    return size


class Journal(Schema):
    """The journals of all hosts on the monitoring host."""

    size: Annotated[Size, AfterValidator(_journal_size)] = Size("2GiB")
    """Maximum size of the journal of each host; its oldest entries are deleted."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 19532
    """Port of the receiver."""
    address: Annotated[str, AfterValidator(_address)] | None = None
    """Address of the receiver; by default that of the monitoring host in the declared network of all hosts."""


class Quarantine(Schema):
    """Quarantine of hosts by alerts: lost GPUs, memory errors of GPUs, failing drives, hosts that are not reached."""

    share_percent: Annotated[int, Field(ge=1, le=50)]
    """Share of the hosts that is in quarantine at most, rounded down to whole hosts."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 9095
    """Port of the receiver on 127.0.0.1 of the monitoring host."""
    read_port: Annotated[int, Field(ge=1024, le=65535)] = 9096
    """Port at which all hosts read the verdicts."""
    address: Annotated[str, AfterValidator(_address)] | None = None
    """Address at which they do; by default that of the monitoring host in the declared network of all hosts."""


class Monitoring(Schema):
    """Prometheus and Alertmanager for all hosts of a fleet."""

    host: HostName
    """Host that runs both."""
    key: Key = Field(default_factory=lambda: {"secret": "monitoring_key"})
    """Secret from which the authority and the keys of all certificates follow: `{secret: NAME}`."""
    tier: Name | None = None
    """Tier of that host for the samples and the journals; by default they are on its boot drive."""
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days after which samples are deleted."""
    retention_size: Size | None = None
    """Size of all samples at which the oldest are deleted; without it, no limit."""
    scrape_seconds: Annotated[int, Field(ge=5, le=300)] = 30
    """Seconds between two readings of each exporter."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 9443
    """Port of each host's proxy, which serves the metrics of its exporters."""
    addresses: dict[HostName, Annotated[str, AfterValidator(_address)]] = Field(default_factory=dict)
    """Address of a host's proxy; by default the host's address in a declared network of the monitoring host."""
    receivers: dict[Name, Receiver]
    """Receivers of alerts by name; the first one gets alerts without a route."""
    routes: Many[Route] = ()
    """Receivers by severity."""
    repeat_minutes: Count = 240
    """Minutes until an unchanged alert is sent again."""
    delays: dict[str, Annotated[int, Field(ge=0, le=7 * 86400)]] = Field(default_factory=dict)
    """Seconds that a condition lasts before its alert fires, by alert; by default those of its rule."""
    audits: dict[Name, Annotated[int, Field(ge=1, le=744)]] = Field(default_factory=dict)
    """Hours within which each audit is due, by stack. Its metrics are `rackwright_audit_STACK.prom`, a text file of the
    monitoring host's `node_exporter`."""
    journal: Journal | None = None
    """Journals of all hosts, which `rackwright journal` shows; by default each host keeps its own alone."""
    quarantine: Quarantine | None = None
    """Quarantine of failing hosts by signed verdicts of the monitoring host; by default none."""
    heartbeat: Key | None = None
    """Secret with a URL that gets a message each minute while monitoring works: `{secret: NAME}`."""

    @model_validator(mode="after")
    def _receivers_are_known(self) -> Self:
        raise_any(_problems(self))
        return self

    @property
    def secrets(self) -> Mapping[tuple[str, ...], tuple[str, int, Form | None]]:
        """Name, minimum length and form of each secret, by the keys of its reference."""
        found: dict[tuple[str, ...], tuple[str, int, Form | None]] = {("key",): (name_of(self.key), KEY_SHORTEST, None)}
        if self.heartbeat:
            found["heartbeat",] = name_of(self.heartbeat), SHORTEST, FORMS["url"]
        for name, receiver in self.receivers.items():
            if receiver.url:
                found["receivers", name, "url"] = name_of(receiver.url), SHORTEST, FORMS["url"]
            if receiver.email and receiver.email.password:
                found["receivers", name, "email", "password"] = (
                    name_of(receiver.email.password),
                    SHORTEST,
                    FORMS["issued"],
                )
        return found


def _problems(monitoring: Monitoring) -> Iterator[Problem]:
    if not monitoring.receivers:
        expected, help = "alerts have at least one receiver", "Write `operators: {url: {secret: alerts_url}}`"
        yield Problem("got none", expected, help, ("receivers",))
    for name in monitoring.receivers:
        if name in RESERVED:
            expected = f"{' and '.join(RESERVED)} are names of Alertmanager's own receivers here"
            yield Problem(f"got the receiver {name}", expected, "Give it another name", ("receivers", name))
        elif not name[0].isalpha():
            expected = "the name of a receiver begins with a letter"
            yield Problem(f"got the receiver {name}", expected, "Give it another name", ("receivers", name))
    for index, route in enumerate(monitoring.routes):
        if route.receiver not in monitoring.receivers:
            expected = f"one of receivers: {', '.join(monitoring.receivers)}"
            help = hint(route.receiver, monitoring.receivers, "Declare it under receivers")
            yield Problem(f"got {route.receiver!r}", expected, help, ("routes", index, "receiver"))
