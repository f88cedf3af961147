"""The program that answers with metrics of a host's model servers, training runs and certificates.

systemd starts it for each connection to its Unix socket, which the account of the metrics proxy alone can reach. A
server answers root on its own Unix socket, as it does for the probe, so no metric needs a port or a key of a client.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rackwright.facts.metrics_text import (
    Sample,
    collect,
    escape,
    is_unknown,
    is_value,
    number_of,
    parse_labels,
    respond_with,
    table_of,
    to_text,
)
from rackwright.facts.probe import runs, servers
from rackwright.facts.probe.isolate import Isolation
from rackwright.facts.probe.observe import attempt, listing, read, run_tool

SERVERS_MAX, RUNS_MAX, CERTIFICATES_MAX = 32, 64, 64
SECONDS = 8
"""Time limit of all parts together: Prometheus waits 10 s, and one account must not end the answer for all others."""
LINES_MAX, LINES_OF_ALL = 4000, 40_000
"""Lines of a server's metrics that are passed on, and of all: some labels are names of clients' keys."""
LINE = re.compile(r"(rackwright_server_\w{1,80})(?:\{(.{0,2000}?)\})? (\S{1,40})", re.ASCII)
"""A sample of our own server; its other families describe the process."""
CERTIFICATES = (
    ("/etc/rackwright", "*", "tls.crt"),
    ("/etc/rackwright/servers", "*", "tls.crt"),
    ("/etc/kubernetes", "pki", "*.crt"),
    ("/etc/kubernetes/pki", "etcd", "*.crt"),
)
"""Places of certificates: a folder, and patterns of a folder in it and of a name."""
END = re.compile(r"notAfter=([^\n]+) GMT\n?")


def respond() -> None:
    """Answer one HTTP request of the proxy on standard input and output."""
    respond_with(lambda: metrics(""))


def metrics(root: str) -> str:
    """Return the metrics of all servers, runs and certificates in Prometheus's text format."""
    names = [
        name for name in listing(root + servers.SERVERS) if Path(f"{root}{servers.SERVERS}/{name}/server.json").exists()
    ]
    # all parts run beside each other, so that none takes the time of another one
    own_runs = Isolation(first(runs.readers(root), RUNS_MAX), SECONDS)
    own_servers = Isolation({name: reader(root, name) for name in names[:SERVERS_MAX]}, SECONDS)
    own_certificates = Isolation({"certificates": lambda: certificates(root)}, SECONDS)
    own = [*run_samples(own_runs.results()), *certificate_samples(own_certificates.results()["certificates"])]
    families: dict[str, list[str]] = {}
    answers = own_servers.results()
    for name, answer in answers.items():
        passed_on = answer["text"] if isinstance(answer, dict) and isinstance(answer.get("text"), str) else ""
        ready = bool(passed_on) and answer.get("ready") is True
        own.append(("rackwright_server_up", {"server": name}, float(ready)))
        for family, line in with_label(name, passed_on, min(LINES_MAX, LINES_OF_ALL // len(answers))):
            families.setdefault(family, []).append(line)
    lines = [line for family in sorted(families) for line in families[family]]
    return to_text(own) + "".join(f"{line}\n" for line in lines)


def first(table: dict[str, Any], most: int) -> dict[str, Any]:
    return dict([*table.items()][:most])


def reader(root: str, name: str) -> Any:
    """Return a function that reads one server."""
    return lambda: server(root, name)


def server(root: str, name: str) -> dict[str, Any]:
    """Return whether a server is ready, and the text of its metrics; an empty one if it does not answer."""
    plan = runs.load_json(f"{root}{servers.SERVERS}/{name}/server.json")
    key = read(root + plan["key"]) if plan.get("key") else ""
    status, body = servers.request(root, plan, "/metrics", key)
    ready, _ = servers.request(root, plan, "/ready")
    return {"ready": ready == 200, "text": body.decode(errors="replace") if status == 200 else ""}


def with_label(name: str, text: str, most: int = LINES_MAX) -> Iterator[tuple[str, str]]:
    """Yield name and line of each sample of a server, with the label ``server`` that no server can choose.

    Prometheus refuses the answer of a whole host for one line that it cannot read: each line is made of its parts.
    """
    for line in text.splitlines()[:most]:
        found = LINE.fullmatch(line)
        labels = None if found is None else parse_labels(found[2] or "")
        if found and labels is not None and "server" not in labels and is_value(found[3]):
            own = [f'server="{escape(name)}"', *(f'{key}="{value}"' for key, value in labels.items())]
            yield found[1], f"{found[1]}{{{','.join(own)}}} {found[3]}"


def run_samples(facts: Any) -> Iterator[Sample]:
    """Yield the samples of training runs; a value that is unknown, or not known yet, has none.

    Args:
        facts: The answer of `probe.runs.runs`. The account of a run chooses most values of that run.
    """
    yield from collect(of_run, [*facts.items()][:RUNS_MAX])


def of_run(name: str, run: Any) -> Iterator[Sample]:
    """Yield the samples of one training run."""
    if is_unknown(run):
        return
    labels = {"run": name}
    if not is_unknown(run.get("outcome")):
        yield "rackwright_run_running", labels, float(run.get("outcome") is None)
    if (steps := number_of(run, "steps")) is not None:
        yield "rackwright_run_steps", labels, steps
    ranks = [rank for rank in table_of(run, "ranks").values() if number_of(rank, "time") is not None]
    if not ranks:
        return
    latest = max(ranks, key=lambda rank: rank["time"])
    yield "rackwright_run_progress_timestamp_seconds", labels, float(latest["time"])
    losses = [number_of(rank, "loss") for rank in ranks if "loss" in rank]
    yield "rackwright_run_loss_finite", labels, float(None not in losses)
    for metric in ("step", "loss", "step_seconds", "expert_load_max"):
        if (value := number_of(latest, metric)) is not None:
            yield f"rackwright_run_{metric}", labels, value
    every = number_of(run, "every_steps")
    if run.get("has_checkpoints") is True and not is_unknown(run.get("checkpoint")) and every is not None:
        yield "rackwright_run_checkpoint_step", labels, number_of(run, "checkpoint") or 0.0
        yield "rackwright_run_checkpoint_every_steps", labels, every


def certificates(root: str) -> dict[str, Any]:
    """Return the end of each certificate in seconds since 1970, by path."""
    paths = [
        f"{folder}/{inner}/{name}"
        for folder, inners, pattern in CERTIFICATES
        for inner in listing(root + folder, inners)
        if Path(f"{root}{folder}/{inner}").is_dir()
        for name in listing(f"{root}{folder}/{inner}", pattern)
    ]
    return {path: attempt(ends, root + path) for path in [*dict.fromkeys(paths)][:CERTIFICATES_MAX]}


def ends(path: str) -> int | None:
    """Return the end of a certificate; None for one without an end."""
    found = END.fullmatch(run_tool("openssl", "x509", "-in", path, "-noout", "-enddate"))
    at = time.strptime(found[1], "%b %d %H:%M:%S %Y") if found else None
    return None if at is None or at.tm_year == 9999 else calendar.timegm(at)


def certificate_samples(facts: Any) -> Iterator[Sample]:
    """Yield the end of each certificate that has one."""
    for path in facts if isinstance(facts, dict) else ():
        if (end := number_of(facts, path)) is not None:
            yield "rackwright_certificate_end_timestamp_seconds", {"file": path}, end
