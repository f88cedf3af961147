"""Publish a language model in a local Hugging Face directory as a model that vLLM serves on GPUs.

    python -m workloads.serving.vllm Qwen3-32B --name qwen3 --card Qwen3-32B/README.md --out published/qwen3

The command copies safetensors, configuration and tokenizer, and neither code nor pickles. It downloads and loads
nothing; it checks that all weights are complete. The card goes to every host with the model. If vLLM has the
architecture of the model itself, the copy of config.json does not name the model's own code (auto_map). Code that it
does need goes with the model only under the digest of its files, which a refusal prints:

    python -m workloads.serving.vllm Kimi-K2 --name kimi --code-sha256 3f… --out published/kimi
"""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workloads.catalogue.models import serving_defaults, vllm_has
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.files import refuse_links
from workloads.foreign import InvalidData, excerpt, parse_object, read_file
from workloads.output_directory import OutputDirectory, add_arguments
from workloads.serving import fit
from workloads.serving.exported import LINEAGE, exported_lineage
from workloads.serving.model import MODEL, NAME, NAME_PATTERN, Model, check_name, publish
from workloads.serving.own_code import code_digest, code_files, foreign_classes
from workloads.serving.settings import ServingSettings

STATUS = "Exit status: 0 published, 2 wrong input or refused."
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
CONFIG_BYTES = 64 << 20
"""Maximum size of a configuration; the index of a model with 200,000 weights has 20 MiB."""
DATA = (".json", ".jinja", ".model", ".tiktoken", ".txt")
"""Suffixes of configurations, tokenizers and templates."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def publish_vllm(
    source: Path, name: str, card: Path | None, directory: Path, code_sha256: str | None = None, replace: bool = False
) -> Model:
    """Publish the model in the directory *source* as *name* in *directory*, and return the model.

    Args:
        code_sha256: The digest of the model's own code, which goes with it; None: it has none.
        replace: Whether the model replaces another one in *directory*.

    Raises:
        UserError: *name* is invalid, a file is missing or cut short, the model needs other code of its own, or
            *directory* exists.
    """
    OutputDirectory(directory, MODEL, replace).check()
    check_name(name)
    if card and not card.is_file():
        raise UserError(Diagnostic(str(card), "the file does not exist", help="Correct the path"))
    config = read_object(source / CONFIG)
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else architectures
    if not isinstance(architecture, str):
        problem, expected = f"architectures has {excerpt(architecture)}", "the class of the model in architectures"
        raise UserError(Diagnostic(str(source / CONFIG), problem, expected, "Save the model again"))
    others = (NAME, LINEAGE)  # of another publication, and of the export: no files of the model
    data = {
        each.name: each
        for each in source.iterdir()
        if each.suffix in DATA and each.is_file() and each.name not in others
    }
    own_code = [name for name in data if name.endswith("config.json") and "auto_map" in read_object(data[name])]
    replaced = {name: read_object(data[name]) for name in own_code if name == CONFIG and vllm_has(architecture)}
    replaced = {
        name: {key: value for key, value in each.items() if key != "auto_map"} for name, each in replaced.items()
    }
    code = _own_code(source, architecture, [name for name in own_code if name not in replaced], code_sha256)
    weights = weight_files(source)
    refuse_links(source, [*data.values(), *code, *weights])
    sizes, context_tokens = _sizes(config, fit.read_tensors(weights))
    lineage = {"directory": source.resolve().name, "architecture": architecture, "sizes": sizes,
               "defaults": _defaults(architecture, context_tokens), **exported_lineage(source)}  # fmt: skip
    if replaced:
        lineage["removed"] = {name: ["auto_map"] for name in replaced}
    if code:
        lineage["code_sha256"] = code_sha256
    files = {
        **data,
        **{each.name: each for each in code},
        **{each.name: each for each in weights},
        **({"card.md": card} if card else {}),
    }
    with TemporaryDirectory() as temporary:
        for each, content in replaced.items():
            files[each] = Path(temporary) / each
            files[each].write_text(json.dumps(content, indent=2) + "\n")
        return publish(directory, files, name, (), (), lineage, runtime="vllm", replace=replace)


def _own_code(source: Path, architecture: str, configs: list[str], code_sha256: str | None) -> list[Path]:
    """Return the code that the model needs by its files *configs*; none if there are none.

    Raises:
        UserError: the code has not the digest *code_sha256*, or is in another repository.
    """
    if not configs:
        if code_sha256 is not None:
            problem, help = "got a digest, and vLLM needs no code of the model's own", "Remove --code-sha256"
            raise UserError(Diagnostic("--code-sha256", problem, help=help))
        return []
    if wrong := [(name, each) for name in configs for each in foreign_classes(read_object(source / name))]:
        problem, expected = "auto_map names {} of another repository", "code in files beside the model"
        help = "Download that code into the directory of the model, and correct auto_map"
        raise UserError(*(Diagnostic(str(source / name), problem.format(each), expected, help) for name, each in wrong))
    files = code_files(source)
    digest = code_digest(files) if files else None
    if digest is not None and digest == code_sha256:
        return files
    names = ", ".join(path.name for path in files)
    help = f"Read {names}, and publish the model with --code-sha256 {digest}" if files else "Download the code as well"
    note = f"vLLM has {architecture} itself, but not this tokenizer" if vllm_has(architecture) else ""
    problem = "auto_map names code of the model's own"
    problem += f", and its files have another digest than {code_sha256}" if code_sha256 else ""
    expected = "a model without code of its own, or the digest of the code"
    raise UserError(*(Diagnostic(str(source / name), problem, expected, help, note) for name in configs))


def _sizes(config: dict[str, Any], tensors: fit.Tensors) -> tuple[dict[str, Any], int]:
    """Return the sizes of the model for model.json, and its longest text; the reason in their place if unknown.

    Arithmetic that is not known here does not say that vLLM cannot serve the model: its layout is then declared.
    """
    try:
        sizes = fit.sizes(config, tensors)
    except UserError as error:
        nested = config.get("text_config")
        longest = {**config, **nested}.get("max_position_embeddings") if isinstance(nested, dict) else config.get(
            "max_position_embeddings"
        )  # fmt: skip
        known = longest if type(longest) is int and longest > 0 else ServingSettings().context_tokens
        reasons = [f"{each.where}: {each.problem}" for each in error.diagnostics]
        return {fit.UNKNOWN: "; ".join(reasons), "weights": sum(tensors.values())}, known
    return sizes.as_data(), sizes.context_tokens


def _defaults(architecture: str, context_tokens: int) -> dict[str, int]:
    """Return the settings that a server of the model has unless others are set."""
    plain = ServingSettings()
    defaults = {"context_tokens": plain.context_tokens, "parallel": plain.parallel, **serving_defaults(architecture)}
    return {**defaults, "context_tokens": min(defaults["context_tokens"], context_tokens)}


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file *path*.

    Raises:
        UserError: The file cannot be read, or has no object.
    """
    try:
        return parse_object(read_file(path, CONFIG_BYTES), CONFIG_BYTES, lenient=True)
    except (OSError, InvalidData) as error:
        problem = f"the file cannot be read: {error.strerror if isinstance(error, OSError) else error}"
        expected, help = "JSON, in the directory of a Hugging Face model", "Save the model again, or correct the path"
        raise UserError(Diagnostic(str(path), problem, expected, help)) from None


def weight_files(source: Path) -> list[Path]:
    """Return the weight files of the model in *source*: those that its index names, else all.

    Raises:
        UserError: A file is missing, or the weights are no safetensors.
    """
    if (source / INDEX).is_file():
        weight_map = read_object(source / INDEX).get("weight_map")
        names = sorted({*map(str, weight_map.values())}) if isinstance(weight_map, dict) else []
        odd = [name for name in names if not re.fullmatch(NAME_PATTERN, name) or not (source / name).is_file()]
        if odd or not names:
            problem = f"the file {odd[0]!r} is missing" if odd else "the index has no weight_map"
            expected, help = "each file of the index beside it", "Download the missing files"
            raise UserError(Diagnostic(str(source / INDEX), problem, expected, help))
        return [source / name for name in names]
    files = sorted(each for each in source.glob("*.safetensors") if each.is_file())
    if not files:
        pickles = sorted(each.name for each in source.iterdir() if each.suffix in PICKLES)
        problem = f"the weights are in {', '.join(pickles)}" if pickles else "the model has no weights"
        note = "reading a pickle runs code" if pickles else ""
        help = "Save the model again, as safetensors"
        raise UserError(Diagnostic(str(source), problem, "weights in *.safetensors", help, note))
    return files


def _tokenizer_note(directory: Path) -> str:
    """Return where vLLM divides texts otherwise than the tokenizer.json in *directory*; empty if nowhere, or if this
    environment has no transformers, which could tell.
    """
    if find_spec("transformers") is None or not (directory / "tokenizer.json").is_file():
        return ""
    from workloads.training.tokenizer import other_tokens

    try:
        other = other_tokens(str(directory))
    except Exception as error:  # of code of the model's own, or of a tokenizer that vLLM alone knows
        return f"it is not known whether vLLM divides texts as tokenizer.json says ({type(error).__name__})"
    if other is None:
        return ""
    kind, text = other
    return f"vLLM takes {kind} for this type of model, which divides {text!r} otherwise than tokenizer.json"


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.vllm", __doc__, STATUS)
    parser.add_argument("directory", metavar="DIR", type=Path, help="directory that `save_pretrained` wrote")
    parser.add_argument("--name", required=True, help="the model's name, for clients")
    parser.add_argument("--card", type=Path, metavar="FILE.md", help="the model card: content, author and licence")
    add_arguments(parser, "the published model", "OUT")
    help = "digest of the model's own code, which was read and may run"
    parser.add_argument("--code-sha256", metavar="DIGEST", help=help)
    args = parser.parse_args(argv)
    model = publish_vllm(args.directory, args.name, args.card, args.out, args.code_sha256, args.replace)
    sizes = model.lineage["sizes"]
    reason = sizes.get(fit.UNKNOWN)
    gigabytes = (sizes["weights"] if reason else fit.parse_sizes(sizes).weight_bytes) / 1e9
    for file, keys in model.lineage.get("removed", {}).items():
        print(f"{file}: left out {', '.join(keys)}; vLLM has {model.lineage['architecture']} itself", flush=True)
    print(f"published {args.out}: {model.name} {model.version}, {gigabytes:.1f} GB of weights", flush=True)
    if note := _tokenizer_note(args.directory):
        print(f"note: {note}", flush=True)
    if code := model.lineage.get("code_sha256"):
        print(f"with code of its own: its servers need vllm.code_sha256: {code}", flush=True)
    if reason:
        print(
            f"size unknown ({reason}): declare the layout, vllm.tensor_parallel and others, of its servers", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
