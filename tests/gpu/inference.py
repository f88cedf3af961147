"""Inference on a GPU: ONNX Runtime, TensorRT in 8 bits against fp32, and vLLM."""

import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.gpu.check import CheckSkipped, Recorder, Target, check, need
from tests.gpu.training import STEPS, TINY_STEPS, run

ONNX = ("torch", "transformers", "pydantic", "yaml", "numpy", "onnx", "onnxruntime")
BATCHES, REPEATS, TINY_REPEATS = (1, 32), 50, 2
COSINE = 0.98
"""Least mean cosine between the outputs of a network in fewer bits and in fp32."""
ACCURACY_KEPT = 0.98
"""Least accuracy of the digits in 8 bits, as a share of that in fp32."""
TARGETS = {"7.5": "t4", "8.0": "a100-80gb", "8.6": "a40", "8.9": "l4", "9.0": "h100-sxm"}
"""GPUs of the catalogue by compute capability, for the command that quantises."""
FP8_SINCE = (8, 9)
"""First compute capability with products of 8-bit floats. Source: CUDA C++ Programming Guide, compute capabilities."""
TOKENS, TINY_TOKENS, STREAMS = 128, 8, 16


@check("onnx-cuda", "ResNet-50 by ONNX Runtime on a GPU: fp16 against fp32", 50, packages=ONNX, stage=2)
def onnx_cuda(recorder: Recorder, target: Target) -> None:
    import onnxruntime

    provider = {"cuda": "CUDA", "cpu": "CPU"}[target.kind]
    if f"{provider}ExecutionProvider" not in onnxruntime.get_available_providers():
        raise CheckSkipped("this ONNX Runtime has no CUDA; the package is onnxruntime-gpu")
    from tests.gpu import resnet
    from workloads.serving.runtimes.onnx import session

    network = resnet.TINY if target.tiny else resnet.FULL
    scratch, found = Path(mkdtemp()), {}
    resnet.write_fp32(scratch / "fp32.onnx", network)
    for name, path in (("fp32", scratch / "fp32.onnx"), ("fp16", resnet.write_fp16(scratch / "fp32.onnx", scratch))):
        runner = session(path, 1)
        first = runner.get_providers()[0]
        need(first.startswith(provider), f"ONNX Runtime runs {name} by {first}, not by {provider}")
        for batch in BATCHES:
            rows = {resnet.INPUT: resnet.pictures(batch, network)}
            found[name] = runner.run(None, rows)[0]
            recorder.record(**{f"{name}_batch_{batch}_ms": _median_ms(partial(runner.run, None, rows), target)})
    similarity = resnet.cosine(found["fp32"], found["fp16"])
    recorder.record(cosine=similarity)
    need(similarity >= COSINE, f"the mean cosine is {similarity:.4f}; at least {COSINE}")


@check("onnx-cpu", "ResNet-50 by ONNX Runtime on a processor, 64 pixels: 8 bits for TensorRT against fp32", 300,
       gpus=0, packages=ONNX, stands_for="tensorrt-int8")  # fmt: skip
def onnx_cpu(recorder: Recorder, target: Target) -> None:
    """Each operator runs as it is written, so the figure is the accuracy of the file, and no rate."""
    from tests.gpu import resnet
    from workloads.serving.runtimes.onnx import session

    network, scratch = resnet.TINY if target.tiny else resnet.SMALL, Path(mkdtemp())
    resnet.write_fp32(scratch / "fp32.onnx", network)
    int8 = resnet.write_int8(scratch / "fp32.onnx", scratch, network)
    rows = {resnet.INPUT: resnet.pictures(8, network)}
    before, after = (session(path, 0, fused=False).run(None, rows)[0] for path in (scratch / "fp32.onnx", int8))
    similarity = resnet.cosine(before, after)
    recorder.record(cosine=similarity)
    need(similarity >= COSINE, f"the mean cosine is {similarity:.4f}; at least {COSINE}")


def _median_ms(action: Callable[[], Any], target: Target) -> float:
    times = []
    for turn in range((TINY_REPEATS if target.tiny else REPEATS) + 5):
        began = time.perf_counter()
        action()
        if turn >= 5:
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def _tensorrt() -> str:
    """Return the module of TensorRT that is installed."""
    for name in ("tensorrt", "tensorrt_rtx"):
        if find_spec(name):
            return name
    raise CheckSkipped("no package tensorrt or tensorrt_rtx")


def _capability() -> str:
    from workloads.serving.runtimes.cuda import CudaGpu

    return CudaGpu().capability


@check(
    "tensorrt-digits",
    "the digits in 8 bits by TensorRT: accuracy against fp32",
    90,
    packages=(*ONNX, "sklearn", "psutil"),
)
def tensorrt_digits(recorder: Recorder, target: Target) -> None:
    """Train, quantise with the gate, build an engine, and count right answers of rows that no step has seen."""
    import numpy as np

    from workloads.quantize.engine import build
    from workloads.serving import model as model_directory
    from workloads.serving.runtimes.tensorrt import TensorRtRuntime
    from workloads.training.config import Digits
    from workloads.training.data import held_out

    library, scratch, capability = _tensorrt(), Path(mkdtemp()), _capability()
    if capability not in TARGETS:
        raise CheckSkipped(f"no target of the catalogue has compute capability {capability}")
    shape = ("--set", f"steps={TINY_STEPS if target.tiny else STEPS}", "--set", f"device={target.kind}")
    run("workloads.training", target, "digits", "--out", str(scratch / "run"), *shape)
    arguments = (str(scratch / "run"), "--data", "digits", "--target", TARGETS[capability])
    run("workloads.quantize", target, *arguments, "--set", "precision=int8", "--out", str(scratch / "int8"))
    gate = model_directory.read(scratch / "int8").lineage["gate"]["found"]
    engine = build(scratch / "int8", scratch / "engine", 32, library=library)
    runtime, unseen = TensorRtRuntime(scratch / "engine", engine, 32), held_out(Digits())
    [name] = [tensor.name for tensor in engine.inputs]
    rows = unseen.x.numpy()
    found = [next(iter(runtime.infer({name: part}).values())) for part in np.array_split(rows, -(-len(rows) // 32))]
    accuracy = float((np.concatenate(found).argmax(1) == unseen.y.numpy()).mean())
    kept = accuracy / gate["accuracy_before"]
    recorder.record(
        library=runtime.description, accuracy=accuracy, accuracy_fp32=gate["accuracy_before"],
        kept_percent=100 * kept, batch_1_ms=_median_ms(partial(runtime.infer, {name: rows[:1]}), target),
    )  # fmt: skip
    need(kept >= ACCURACY_KEPT, f"{kept:.2%} of the accuracy is kept; at least {ACCURACY_KEPT:.0%}")


@check("tensorrt-int8", "ResNet-50 by TensorRT in int8 against fp32: size, latency and cosine", 70, packages=ONNX,
       stage=2)  # fmt: skip
def tensorrt_int8(recorder: Recorder, target: Target) -> None:
    from tests.gpu import resnet

    _compare_engines(recorder, target, "int8", resnet.write_int8)


@check("tensorrt-fp8", "ResNet-50 by TensorRT in FP8 against fp32: size, latency and cosine", 70, packages=ONNX,
       stage=2)  # fmt: skip
def tensorrt_fp8(recorder: Recorder, target: Target) -> None:
    from tests.gpu import resnet

    _tensorrt()
    capability = _capability()
    if tuple(map(int, capability.split("."))) < FP8_SINCE:
        raise CheckSkipped(f"FP8 needs compute capability 8.9, and the GPU has {capability}")
    _compare_engines(recorder, target, "fp8", resnet.write_fp8, resnet.FP8_OPSET)


def _compare_engines(
    recorder: Recorder, target: Target, name: str, write: Callable[..., Path], opset: int | None = None
) -> None:
    """Build the network in fp32 and in *name*, and measure both in turns."""
    from tests.gpu import resnet

    library, scratch, network = _tensorrt(), Path(mkdtemp()), resnet.TINY if target.tiny else resnet.FULL
    resnet.write_fp32(scratch / "fp32.onnx", network, opset or resnet.OPSET)
    files = {"fp32": scratch / "fp32.onnx", name: write(scratch / "fp32.onnx", scratch, network)}
    runtimes = {each: _engine(recorder, each, path, scratch, library, network) for each, path in files.items()}
    medians: dict[tuple[str, int], float] = {}
    for batch in BATCHES:
        rows = {resnet.INPUT: resnet.pictures(batch, network)}
        for each, runtime in runtimes.items():
            medians[each, batch] = _median_ms(partial(runtime.infer, rows), target)
            recorder.record(**{f"{each}_batch_{batch}_ms": medians[each, batch]})
        recorder.record(**{f"faster_batch_{batch}_ratio": medians["fp32", batch] / medians[name, batch]})
    rows = {resnet.INPUT: resnet.pictures(32, network)}
    before, after = (runtime.infer(rows)[resnet.OUTPUT] for runtime in runtimes.values())
    similarity = resnet.cosine(before, after)
    recorder.record(cosine=similarity)
    need(similarity >= COSINE, f"the mean cosine is {similarity:.4f}; at least {COSINE}")


def _engine(recorder: Recorder, name: str, path: Path, scratch: Path, library: str, network: Any) -> Any:
    """Return the runtime of an engine that is built from the ONNX file *path*."""
    from tests.gpu import resnet
    from workloads.quantize.engine import build
    from workloads.serving.model import Tensor, publish
    from workloads.serving.runtimes.tensorrt import TensorRtRuntime

    inputs = (Tensor(name=resnet.INPUT, datatype="FP32", shape=(-1, 3, network.side, network.side)),)
    outputs = (Tensor(name=resnet.OUTPUT, datatype="FP32", shape=(-1, network.classes)),)
    publish(scratch / name, {"model.onnx": path}, "resnet-50", inputs, outputs, {"precision": name})
    began = time.perf_counter()
    model = build(scratch / name, scratch / f"{name}-engine", max(BATCHES), library=library)
    size = sum(file.bytes for file in model.files.values())
    recorder.record(**{f"{name}_mb": size / 1e6, f"{name}_build_seconds": time.perf_counter() - began})
    return TensorRtRuntime(scratch / f"{name}-engine", model, max(BATCHES))


@check(
    "vllm",
    "a language model by vLLM: tokens a second",
    110,
    packages=("torch", "transformers", "pydantic", "psutil", "yaml"),
    stage=2,
)
def vllm(recorder: Recorder, target: Target) -> None:
    """Serve a model with random weights by the server's own runtime, to one client and to several at once."""
    import torch

    from tests.gpu import model
    from workloads.export.hugging_face import byte_tokenizer
    from workloads.serving.runtimes.vllm import VllmRuntime
    from workloads.serving.settings import ServingSettings
    from workloads.serving.vllm import publish_vllm

    if not Path(sys.executable).with_name("vllm").is_file() and shutil.which("vllm") is None:
        raise CheckSkipped("no command vllm beside Python or on PATH")
    scratch, size = Path(mkdtemp()), "tiny"
    if not target.tiny:
        size = model.size_for(torch.cuda.get_device_properties(0).total_memory)
    model.write(scratch / "model", size, target.kind, 1024)
    byte_tokenizer().save_pretrained(scratch / "model")
    (scratch / "model" / "text.txt").unlink()
    torch.cuda.empty_cache()
    recorder.record(size=size)
    published = publish_vllm(scratch / "model", "random", None, scratch / "published")
    began = time.perf_counter()
    runtime = VllmRuntime(scratch / "published", published, ServingSettings(parallel=STREAMS, context_tokens=1024))
    try:
        recorder.record(engine=runtime.description, ready_seconds=time.perf_counter() - began)
        _ask(runtime, TINY_TOKENS, 1)
        for streams in (1, STREAMS):
            first, rate = _ask(runtime, TINY_TOKENS if target.tiny else TOKENS, streams)
            recorder.record(
                **{f"streams_{streams}_tokens_per_second": rate, f"streams_{streams}_first_ms": 1000 * first}
            )
    finally:
        runtime.close()


def _ask(runtime: Any, tokens: int, streams: int) -> tuple[float, float]:
    """Return the median seconds to the first piece, and the tokens of all streams a second."""
    firsts: list[float] = []
    written: list[int] = []

    def ask() -> None:
        began = time.perf_counter()
        first = 0.0
        for event in _stream(runtime, tokens):
            if event["choices"] and event["choices"][0]["text"] and not first:
                first = time.perf_counter() - began
            if event.get("usage"):
                written.append(event["usage"]["completion_tokens"])
        firsts.append(first)

    threads = [threading.Thread(target=ask) for _ in range(streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    need(len(firsts) == len(written) == streams, f"{len(written)} of {streams} streams have ended well")
    return statistics.median(firsts), sum(written) / seconds


def _stream(runtime: Any, tokens: int) -> Iterator[dict[str, Any]]:
    """Yield the events of a text of *tokens* tokens, of the runtime's own socket."""
    from workloads.serving.runtimes.unix_http import UnixConnection

    request = {
        "model": runtime.model.name, "prompt": "x" * 64, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    with closing(UnixConnection(runtime.socket_path, timeout=60)) as connection:
        headers = {"authorization": f"Bearer {runtime.key}", "content-type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(request), headers)
        answer = connection.getresponse()
        need(answer.status == 200, f"vLLM answers {answer.status}")
        for line in answer:
            text = line.decode().strip().removeprefix("data: ")
            if text.startswith("{"):
                yield json.loads(text)
