"""Our server with a real vLLM on the CPU: serve_on_cpu.py MODEL --set KEY=VALUE … -- OPTION_OF_VLLM …

vLLM takes the options that a computer without a GPU needs, and those behind the two dashes. This module is the one
place that knows them: once settings name options of vLLM, the settings replace it.
"""

import os
import sys

from workloads.serving.__main__ import main
from workloads.serving.runtimes import vllm

CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
}  # fmt: skip
"""Variables of vLLM on a processor; the first one is the cache's size in GiB."""

if __name__ == "__main__":
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = ["--enforce-eager", *sys.argv[end + 1 :]]
    command = vllm._command
    vllm._command = lambda *arguments: [*command(*arguments), *options]
    os.environ.update(CPU)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.exit(main(sys.argv[1:end]))
