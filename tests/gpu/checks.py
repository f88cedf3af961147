"""The checks by topic, in the order of a run: the important ones first, and in each stage the untried ones.

The limits of each stage add up to the time limit of a run at most: a cold GPU finishes the first stage even if every
check takes its limit. The second stage has the time that remains, or a run of its own.
"""

from tests.gpu import catalogue, driver, inference, language, training
from tests.gpu.check import Check

CHECKS: tuple[Check, ...] = (
    driver.probe,
    driver.library,
    training.nccl,
    training.two_gpus,
    language.sharded,
    training.digits,
    inference.tensorrt_digits,
    catalogue.code_for_gpus,
    language.sharded_cpu,
    training.two_ranks_cpu,
    training.digits_cpu,
    training.checkpoints_cpu,
    inference.onnx_cpu,
    language.chunked_loss,
    training.checkpoints,
    inference.onnx_cuda,
    inference.tensorrt_int8,
    inference.tensorrt_fp8,
    language.compiled,
    inference.vllm,
)
