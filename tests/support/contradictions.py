"""Contradictory and sound declarations of accelerators."""

from dataclasses import replace
from typing import Any

import yaml

from rackwright.fleet.source import format_keys
from rackwright.schema import Needs
from rackwright.schema.accelerator import Accelerators, problems, read_choices
from rackwright.schema.catalogue import PROFILES
from rackwright.schema.problem import Problem
from tests.support.log import ROOT

Case = dict[str, Any]

CASES: list[Case] = yaml.safe_load((ROOT / "tests/schema/contradictions.yaml").read_text())
HOST = {"address": "192.0.2.1", "identity": {"serial": "CHASSIS-1"}, "os": "debian-12"}


def accelerators(case: Case) -> Accelerators:
    host = HOST | case["host"]
    needs = Needs.model_validate(host.get("needs", {}))
    made = read_choices(host["os"], PROFILES[host.get("profile", "virtual")], host.get("roles", {}), needs)
    return replace(made, gpus=tuple(case["gpus"])) if "gpus" in case else made


def message(problem: Problem) -> str:
    return str(problem.at(format_keys(problem.path), format_keys(problem.also) if problem.also else ""))


def messages(a: Accelerators) -> list[str]:
    return [message(problem) for problem in problems(a)]


NVIDIA = ("nvidia_driver",)
GOOD = {
    "A100 with Debian 12's driver and CUDA": Accelerators(
        "debian-12", ("a100-80gb",), roles=("nvidia_driver", "cuda"), cuda=("11.8",), torch="2.5+cu121"
    ),
    "A100 with Debian 12's driver and a newer 12": Accelerators(
        "debian-12", ("a100-80gb",), roles=NVIDIA, driver="535", torch="2.9+cu128", precision=("bf16", "tf32")
    ),
    "H100 with 580": Accelerators(
        "ubuntu-24.04",
        ("h100-sxm",),
        nvswitch=3,
        roles=NVIDIA,
        driver="580",
        driver_source="vendor",
        flavour="open",
        fabric_manager="on",
        torch="2.13+cu130",
        precision=("fp8", "bf16"),
        mig=("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"),
        power_limit_watts=500,
    ),
    "V100 with 535": Accelerators(
        "debian-12", ("v100-32gb",), roles=NVIDIA, driver="535", flavour="proprietary", torch="2.6+cu118"
    ),
    "V100 with 580, the last": Accelerators(
        "debian-13",
        ("v100-32gb",),
        roles=NVIDIA,
        driver="580",
        driver_source="vendor",
        flavour="proprietary",
        torch="2.14+cu126",
    ),
    "P100": Accelerators(
        "debian-12", ("p100-16gb",), roles=NVIDIA, flavour="proprietary", torch="2.14+cu126", precision=("fp16",)
    ),
    "A40 with a security update of Debian 12": Accelerators("debian-12", ("a40",), roles=NVIDIA, driver="535.309.01"),
    "T4 at its fastest": Accelerators("debian-12", ("t4",), roles=NVIDIA, clocks_mhz=(1590,)),
    "T4 in INT8": Accelerators(
        "debian-13", ("t4",), roles=NVIDIA, ecc=True, power_limit_watts=65, torch="2.9+cu128", precision=("int8",)
    ),
    "RTX 3090 within bounds nobody vouches for": Accelerators(
        "debian-12", ("rtx-3090",), roles=NVIDIA, power_limit_watts=280, precision=("bf16",)
    ),
    "L40S": Accelerators("debian-12", ("l40s",), roles=NVIDIA, torch="2.9+cu126", precision=("fp8",)),
    "A30 divided": Accelerators("debian-12", ("a30",), roles=NVIDIA, mig=("2g.12gb", "1g.6gb", "1g.6gb")),
    "B200 with 580": Accelerators(
        "ubuntu-24.04",
        ("b200",),
        nvswitch=4,
        roles=NVIDIA,
        driver="580.95.05",
        driver_source="vendor",
        driver_sets=True,
        torch="2.9+cu128",
        precision=("fp4",),
    ),
    "B200 with the first that knows it": Accelerators(
        "ubuntu-24.04", ("b200",), roles=NVIDIA, driver="570.133.20", driver_source="vendor", needs_cuda="12.8"
    ),
    "MI300X": Accelerators("ubuntu-24.04", ("mi300x",), roles=("rocm",), torch="2.9+rocm6.4", precision=("fp8",)),
    "MI300X with a kernel of the matrix": Accelerators(
        "debian-12", ("mi300x",), roles=("rocm",), version="6.4.3", kernel="6.1.0-50-amd64"
    ),
    "a release of ROCm that is newer than the catalogue": Accelerators(
        "ubuntu-24.04", ("mi300x",), roles=("rocm",), version="7.14.0", kernel="6.17.0-5-generic"
    ),
    "Gaudi 2 with a later kernel": Accelerators(
        "ubuntu-22.04", ("gaudi2",), roles=("gaudi",), version="1.23.0-695", kernel="6.8.0-60-generic"
    ),
    "CANN, whose releases are no numbers": Accelerators(
        "ubuntu-22.04", ("atlas-500",), roles=("ascend",), version="8.0.RC1"
    ),
    "RDMA to the memory of GPUs": Accelerators(
        "debian-12", ("a100-80gb",), roles=NVIDIA, flavour="open", peer_memory="dma_buf"
    ),
    "Gaudi 2": Accelerators("ubuntu-22.04", ("gaudi2",), roles=("gaudi",), precision=("bf16",)),
    "Jetson": Accelerators("ubuntu-22.04", ("orin",), roles=("jetson",), precision=("int8",)),
    "a host of unknown hardware": Accelerators("debian-12", roles=("nvidia_driver", "cuda")),
    "nothing": Accelerators(),
}
