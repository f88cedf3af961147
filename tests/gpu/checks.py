"""The checks by topic, in the order of a run: what has never run on hardware comes first, and what takes long last."""

from tests.gpu import catalogue, driver, inference, language, training
from tests.gpu.check import Check

CHECKS: tuple[Check, ...] = (
    driver.probe,
    driver.library,
    training.nccl,
    language.sharded,
    training.digits,
    language.chunked_loss,
    training.checkpoints,
    inference.onnx_cuda,
    inference.tensorrt_digits,
    inference.tensorrt_int8,
    inference.tensorrt_fp8,
    inference.vllm,
    language.compiled,
    catalogue.code_for_gpus,
    language.sharded_cpu,
    training.digits_cpu,
    training.checkpoints_cpu,
    inference.onnx_cpu,
)
