"""The programs that run on the GPUs, independent of Pulumi, Ansible and rackwright."""

import os

# From 1.32 on, ONNX Runtime's wheel for Linux collects telemetry for Microsoft, with an ID that it stores in the home
# directory. It reads this variable on import, which any module below may do.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
