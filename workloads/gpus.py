"""The GPUs that a run or a server of a fleet has on this host, which its processes see alone."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from workloads.errors import Diagnostic, UserError

VARIABLE = "RACKWRIGHT_GPUS"
"""Variable with the path of the file that has the GPUs; the path is the same on all hosts, its content is not."""


def visible_gpus(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that hide other GPUs; empty without a file in *variables*.

    UUIDs stay the same when other boards are added or removed, and a missing one is an error of CUDA. Without UUIDs,
    indices are in the order of the PCI bus. Source: CUDA_VISIBLE_DEVICES, CUDA C++ Programming Guide.

    Raises:
        UserError: the file cannot be read.
    """
    path = variables.get(VARIABLE)
    if not path:
        return {}
    try:
        assigned = json.loads(Path(path).read_text())
        shown = ",".join(map(str, assigned["uuids"] or assigned["gpus"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"the GPUs of this host cannot be read: {type(error).__name__}"
        raise UserError(Diagnostic(path, problem, "the file that `rackwright up` writes", "Run it again")) from None
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": shown, "HIP_VISIBLE_DEVICES": shown}


def hide_other_gpus() -> None:
    """Hide all but the assigned GPUs from this process and its children; call it before PyTorch uses a GPU.

    Raises:
        UserError: the file cannot be read.
    """
    os.environ.update(visible_gpus(os.environ))
