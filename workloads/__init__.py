"""What runs on the GPUs. Knows nothing of Pulumi, Ansible or rackwright."""

import os

# from 1.32 on ONNX Runtime's wheel for Linux gathers telemetry, with an id that it keeps in the home, for Microsoft; it
# reads this when it is imported, which code below may do at any place
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
