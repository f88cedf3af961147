"""A drawing of the example `hospital`, from its fleet files."""

from collections.abc import Iterator
from html import escape

from rackwright.fleet import load_fleet
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from tests.support.log import ROOT
from tests.support.our_roles import ROLES

PICTURE = ROOT / "docs" / "assets" / "hospital.svg"
HOSTS, MODELS = (ROOT / "stacks" / "hospital" / name for name in ("hospital.yaml", "models.yaml"))
SERVICES = {
    "mlflow": "MLflow",
    "registry": "registry",
    "object_store": "object store",
    "load_balancer": "load balancer",
}
"""Roles whose service the drawing shows, with their words."""
WORDS = {"nvme": "NVMe", "sas": "SAS", "lora": "LoRA"}
WIDTH, GAP, LINE, TOP = 300, 20, 30, 66
STYLE = """
    .host { fill: #e8eefc; stroke: #3b5bb5; stroke-width: 2 }
    .part { fill: #ffffff; stroke: #8fa3d8 }
    .model { fill: #fdf1d8; stroke: #b07a14 }
    .wire { stroke: #2e7d4f; stroke-width: 4 }
    text { fill: #1b2233; font-size: 15px }
    .name { font-size: 19px; font-weight: 600 }
    @media (prefers-color-scheme: dark) {
      .host { fill: #1d2a4d; stroke: #8ba6f0 }
      .part { fill: #27355e; stroke: #6d82c0 }
      .model { fill: #3d3014; stroke: #e0b252 }
      .wire { stroke: #6cc492 }
      text { fill: #e8ecf6 }
    }
"""


def draw() -> str:
    """Return the drawing as an SVG."""
    fleet, models = load_fleet(HOSTS, ROLES), load_fleet(MODELS, ROLES)
    columns = [(name, host, [*_parts(fleet, host)], [*_models(models, name)]) for name, host in fleet.hosts.items()]
    lines = max(len(parts) + len(own) for _, _, parts, own in columns)
    height, width = TOP + 44 + lines * LINE + 24, len(columns) * (WIDTH + GAP) + GAP
    boxes = "\n".join(_host(GAP + number * (WIDTH + GAP), height, *column) for number, column in enumerate(columns))
    description = "; ".join(f"{name}: {', '.join([*parts, *own])}" for name, _, parts, own in columns)
    networks = [host.network for host in fleet.hosts.values() if host.network]
    [bond] = {bond.mode for network in networks for bond in network.bonds.values()}
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title text"
  font-family="system-ui, sans-serif">
  <title id="title">The example hospital</title>
  <desc id="text">{escape(description)}</desc>
  <style>{STYLE}  </style>
  <line class="wire" x1="{GAP}" y1="34" x2="{width - GAP}" y2="34"/>
  <text x="{GAP}" y="22">fabric: bond of two ports, {escape(bond)}</text>
{boxes}
</svg>
"""


def _parts(fleet: Fleet, host: Host) -> Iterator[str]:
    """Yield the accelerators, tiers and services of a host."""
    yield from (f"{count} × {model.upper()}" for model, count in host.minimum.gpus.items())
    for name, tier in host.tiers.items():
        [bus] = {drive.bus for drive in host.drives if drive.tier == name}
        yield f"{name}: {str(tier.level).upper()} {WORDS[str(bus)]}{', LUKS2' if tier.encryption else ''}"
    services = [words for role, words in SERVICES.items() if role in host.roles]
    yield from (", ".join(services[at : at + 2]) for at in range(0, len(services), 2))


def _models(models: Fleet, host: str) -> Iterator[str]:
    """Yield the servers and runs that have *host*."""
    for name, server in models.servers.items():
        if host in server.hosts:
            more = f" on {len(server.hosts)} hosts" if len(server.hosts) > 1 else ""
            yield f"server {name}{more}: {'vLLM' if server.vllm else 'ONNX Runtime'}"
    yield from (f"run {name}: {WORDS[run.recipe]}" for name, run in models.runs.items() if host in run.hosts)


def _host(x: int, height: int, name: str, host: Host, parts: list[str], models: list[str]) -> str:
    rows = [("part", text) for text in parts] + [("model", text) for text in models]
    middle = x + WIDTH // 2
    lines = [
        f'  <line class="wire" x1="{middle}" y1="34" x2="{middle}" y2="{TOP}"/>',
        f'  <rect class="host" x="{x}" y="{TOP}" width="{WIDTH}" height="{height - TOP - 12}" rx="8"/>',
        f'  <text class="name" x="{x + 14}" y="{TOP + 28}">{escape(name)}</text>',
    ]
    for number, (kind, text) in enumerate(rows):
        y = TOP + 40 + number * LINE
        lines.append(f'  <rect class="{kind}" x="{x + 12}" y="{y}" width="{WIDTH - 24}" height="{LINE - 5}" rx="4"/>')
        lines.append(f'  <text x="{x + 22}" y="{y + 18}">{escape(text)}</text>')
    return "\n".join(lines)
