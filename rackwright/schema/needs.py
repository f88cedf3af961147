"""The software that a host must be able to run, checked against its GPUs and driver before installation."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetJsonSchemaHandler

from rackwright.schema.base import Many, Schema
from rackwright.schema.catalogue import SOFTWARE, Precision
from rackwright.schema.problem import Problem, hint

TORCH = r"[0-9]+\.[0-9]+(\.[0-9]+)?\+(cu[0-9]+|rocm[0-9.]+)"


def _torch(torch: str) -> str:
    if not re.fullmatch(TORCH, torch):
        expected = "a build of PyTorch is its release and its tag"
        raise Problem(f"got {torch!r}", expected, "Write it like 2.9+cu128, as torch.__version__ shows it")
    return torch


def _cuda(cuda: str) -> str:
    if cuda not in SOFTWARE.cuda:
        help = hint(cuda, SOFTWARE.cuda, "Take one of these")
        raise Problem(f"got {cuda!r}", f"releases of the catalogue: {', '.join(SOFTWARE.cuda)}", help)
    return cuda


class _CudaReleases:
    """The JSON Schema of a release of CUDA, computed when it is first used."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(SOFTWARE.cuda)}


Torch = Annotated[str, AfterValidator(_torch), Field(json_schema_extra={"pattern": f"^{TORCH}$"})]
Cuda = Annotated[str, AfterValidator(_cuda), _CudaReleases()]


class Needs(Schema):
    """The software that a host must be able to run."""

    torch: Torch | None = None
    """Build of PyTorch: release and tag, like 2.9+cu128."""
    cuda: Cuda | None = None
    """Release of CUDA, like 12.8, for programs with their own runtime."""
    precision: Many[Precision] = ()
    """Precisions of the computations; the GPUs of this host must accelerate each of them."""
