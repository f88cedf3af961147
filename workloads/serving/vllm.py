"""Publish a language model in a local Hugging Face directory as one that vLLM serves on GPUs.

    python -m workloads.serving.vllm Qwen3-32B --name qwen3 --card Qwen3-32B/README.md --out published/qwen3

Safetensors, configuration and tokenizer are copied; code and pickles are not. Nothing is fetched and nothing loaded:
what is proved is that all numbers are there. The card goes with the model to every host.
"""

import json
import re
import sys
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.serving import fit
from workloads.serving.model import NAME, NAMED, Model, check_name, publish

STATUS = "Exit status: 0 published, 2 wrong or refused."
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
DATA = (".json", ".jinja", ".model", ".tiktoken", ".txt")
"""What configurations, tokenizers and templates are written as."""
HEAD_BYTES = 100 << 20
"""The most that the head of a safetensors file may have. Source: safetensors, MAX_HEADER_SIZE."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def published(what: Path, name: str, card: Path | None, directory: Path) -> Model:
    """Publish the model in the directory *what* as *name* in *directory*, and return what it is.

    Raises:
        WorkloadError: *name* is none, a file is missing or cut short, the model takes code of its own, or *directory*
            is no model's.
    """
    check_name(name)
    if card and not card.is_file():
        raise WorkloadError(str(card), "got no file", "it is published", "Mend its path")
    config = _object(what / CONFIG)
    architecture = (config.get("architectures") or [None])[0]
    if not isinstance(architecture, str):
        want = "its architectures name what the model is"
        raise WorkloadError(str(what / CONFIG), f"got {architecture}", want, "Save the model again")
    data = {each.name: each for each in what.iterdir() if each.suffix in DATA and each.is_file() and each.name != NAME}
    for each in (path for path in data.values() if path.name.endswith("config.json")):
        if "auto_map" in _object(each):
            want = "a model is served without code of its own"
            fix = "Take auto_map away where vLLM knows the model by itself, or take another model"
            raise WorkloadError(str(each), "got auto_map, which names such code", want, fix)
    weights = _weights(what)
    weight_bytes = sum(map(_whole, weights))
    lineage = {"directory": what.resolve().name, "architecture": architecture,
               "sizes": asdict(fit.sizes(config, weight_bytes))}  # fmt: skip
    files = {**data, **{each.name: each for each in weights}, **({"card.md": card} if card else {})}
    return publish(directory, files, name, (), (), lineage, runtime="vllm")


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        got = f"got {error.strerror if isinstance(error, OSError) else error}"
        want = "a model's directory of Hugging Face's has it, as JSON"
        raise WorkloadError(str(path), got, want, "Save the model again, or mend the path") from None
    if not isinstance(found, dict):
        raise WorkloadError(str(path), f"got a {type(found).__name__}", "it is an object", "Save the model again")
    return found


def _weights(what: Path) -> list[Path]:
    """Return the files of the model's numbers: those that its index names, else all."""
    if (what / INDEX).is_file():
        named = _object(what / INDEX).get("weight_map")
        names: Collection[Any] = sorted(set(named.values())) if isinstance(named, dict) else []
        odd = [name for name in names if not re.fullmatch(NAMED, str(name)) or not (what / str(name)).is_file()]
        if odd or not names:
            got = f"got no file {odd[0]!r}" if odd else "got no weight_map"
            want = "every file that it names lies beside it"
            raise WorkloadError(str(what / INDEX), got, want, "Take the rest of the model")
        return [what / name for name in names]
    found = sorted(each for each in what.glob("*.safetensors") if each.is_file())
    if not found:
        pickles = sorted(each.name for each in what.iterdir() if each.suffix in PICKLES)
        got = f"got {', '.join(pickles)}: reading a pickle runs code" if pickles else "got no *.safetensors"
        fix = "Save it again, as safetensors"
        raise WorkloadError(str(what), got, "a model's numbers are in safetensors", fix)
    return found


def _whole(path: Path) -> int:
    """Return how many bytes the safetensors file *path* has; its head says how many there should be.

    Source: safetensors' README, "Format": 8 bytes of length, JSON with offsets behind it, the numbers.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(length) if length <= min(size - 8, HEAD_BYTES) else b""
    try:
        ends = [each["data_offsets"][1] for name, each in json.loads(head).items() if name != "__metadata__"]
        wanted = 8 + length + max(ends)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        got, want = "got no head that can be read", "it is a safetensors file"
        raise WorkloadError(str(path), got, want, "Take the file again") from None
    if size != wanted:
        raise WorkloadError(str(path), f"got {size} bytes", f"it has {wanted} by its own head", "Take the file again")
    return size


def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.vllm", __doc__, STATUS)
    parser.add_argument("directory", metavar="DIR", type=Path, help="as `save_pretrained` writes it")
    parser.add_argument("--name", required=True, help="what clients call it")
    parser.add_argument("--card", type=Path, metavar="FILE.md", help="what it is, from whom, and under which licence")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="where it is published")
    given = parser.parse_args(argv)
    try:
        model = published(given.directory, given.name, given.card, given.out)
    except WorkloadError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_status
    gigabytes = model.lineage["sizes"]["weight_bytes"] / 1e9
    print(f"published {given.out}: {model.name} {model.version}, {gigabytes:.1f} GB of weights", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
