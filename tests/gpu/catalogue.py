"""The catalogue against the installed PyTorch: for which GPUs PyTorch has code."""

import re

from tests.gpu.check import Recorder, Target, check, need


@check(
    "catalogue",
    "the catalogue's GPUs against the code in PyTorch",
    30,
    gpus=0,
    packages=("torch", "pydantic", "yaml"),
)
def code_for_gpus(recorder: Recorder, target: Target) -> None:
    """Compare the row of this build in the catalogue with the architectures that the build names."""
    import torch

    from rackwright.schema.accelerator.choices import WORKLOADS_TORCH, torch_parts
    from rackwright.schema.catalogue import GPUS, SOFTWARE

    version = str(torch.__version__)
    release, tag = torch_parts(version)
    built = architectures(torch._C._cuda_getArchFlags() or "")
    recorder.record(torch=version, code=" ".join(built))
    [row] = [each for each in SOFTWARE.torch if each.tag == tag and release in each.releases] or [None]
    recorder.record(role_workloads=WORKLOADS_TORCH)
    need(row is not None, f"the catalogue has no build {release}+{tag}")
    declared = row.verified_value("code") or () if row else ()
    missing = [name for name, gpu in GPUS.items() if gpu.role == "nvidia_driver" and not _has_code(gpu, built)]
    recorder.record(gpus_without_code=", ".join(missing) or "none")
    need(set(declared) <= set(built), f"the catalogue has code for {', '.join(declared)}, the build {', '.join(built)}")
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        need(runs_on(f"{major}.{minor}", built), f"the GPU is {major}.{minor}, the build has {', '.join(built)}")


def architectures(flags: str) -> list[str]:
    """Return the compute capabilities that *flags* name: ``sm_90 compute_120`` has 9.0 alone."""
    return [f"{number[:-1]}.{number[-1]}" for number in re.findall(r"\bsm_(\d+)", flags)]


def runs_on(capability: str, built: list[str]) -> bool:
    """Return whether code for one of *built* runs on a GPU of *capability*: same major number, no later minor one."""
    major, minor = map(int, capability.split("."))
    return any(int(each.split(".")[0]) == major and int(each.split(".")[1]) <= minor for each in built)


def _has_code(gpu: object, built: list[str]) -> bool:
    target = gpu.verified_value("target")  # type: ignore[attr-defined]
    return not target or runs_on(target, built)
