"""What the vendors' tools print. Each says where it is from, or in whose form it is."""

import json

NVBANDWIDTH_ROW = ("26.03", "25.94", "25.97", "26.00", "26.19", "25.95", "26.00", "25.97")
NVBANDWIDTH_PAIRS = (("N/A", "276.07", "276.36"), ("276.19", "N/A", "276.29"), ("276.33", "274.89", "N/A"))
"""Figures of NVIDIA/nvbandwidth, README.md of v0.8: the example of an A100 host, of which the pairs are a part."""


def nvbandwidth(*tests: tuple[str, object], status: str = "Passed") -> str:
    """Return ``nvbandwidth --json`` in the form of NVIDIA/nvbandwidth v0.8, json_output.cpp: cells are texts."""
    cases = [{"name": name, "status": status, "sum": 1.0, "bandwidth_matrix": matrix} for name, matrix in tests]
    content = {"version": "v0.8", "CUDA Runtime Version": 12040, "Driver Version": "550.54.15", "testcases": cases}
    return json.dumps({"nvbandwidth": content}, indent=3)


HEAD = """\
# nThread 1 nGpus 8 minBytes 8589934592 maxBytes 8589934592 step: 1048576(bytes) warmup iters: 5 iters: 20 agg iters: 1
#
# Using devices
#  Rank  0 Group  0 Pid  66421 on worker-1 device  0 [0x07] NVIDIA A100-SXM4-80GB
"""
TAIL = """\
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
  1073741824     268435456     float     sum      -1   8109.1  132.41  231.72      0   8109.7  132.40  231.70      0
# Out of bounds values : {wrong} {word}
# Avg bus bandwidth    : {average}
#
"""
"""From facebookresearch/gcm, test_check_nccl.py: all_reduce_perf on eight A100-SXM4-80GB."""
NVLINK = """\
worker-1:66421:66497 [0] NCCL INFO Pattern 4, crossNic 0, nChannels 12, bw 20.0/20.0, type NVL/PIX, sameChannels 1
worker-1:66421:66497 [0] NCCL INFO Pattern 1, crossNic 0, nChannels 12, bw 20.0/20.0, type NVL/PIX, sameChannels 1
worker-1:66421:66497 [0] NCCL INFO Channel 00/0 : 0[0] -> 7[7] via P2P/CUMEM
worker-1:66421:66497 [0] NCCL INFO Channel 01/0 : 0[0] -> 7[7] via P2P/CUMEM
"""
"""Ways from NVIDIA/nccl#1453; patterns in the form of NCCL 2.30, graph/search.cc. So are all that follow."""
PEERS_OVER_PCIE = """\
tower:8756:8771 [0] NCCL INFO Pattern 4, crossNic 0, nChannels 2, bw 12.0/12.0, type PHB/PIX, sameChannels 1
tower:8756:8771 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/direct pointer
"""
"""The way from NVIDIA/nccl#1773."""
SHARED_MEMORY = """\
tower:8756:8771 [0] NCCL INFO Pattern 4, crossNic 0, nChannels 2, bw 12.0/12.0, type PHB/PIX, sameChannels 1
tower:8756:8771 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct
"""
RDMA = """\
worker-1:227602:227760 [0] NCCL INFO Channel 07/0 : 0[0] -> 15[7] [send] via NET/IBext_v8/0(7)/GDRDMA
worker-1:227602:227760 [0] NCCL INFO Channel 07/0 : 8[0] -> 0[0] [receive] via NET/IBext_v8/0/GDRDMA
worker-1:227602:227760 [0] NCCL INFO Channel 15/0 : 0[0] -> 15[7] [send] via NET/IB/4
"""
"""From NVIDIA/nccl#1453 and autoscriptlabs/nccl-mesh-plugin#56."""
FALLEN_BACK = """\
node2:1208:1208 [0] misc/ibvwrap.cc:63 NCCL WARN Failed to open libibverbs.so[.1]
node2:1208:1208 [0] NCCL INFO NET/Socket : Using [0]ibp5s0:10.59.7.149<0>
node2:1208:1208 [0] NCCL INFO Using network Socket
node2:1208:1249 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] [send] via NET/Socket/0
node2:1208:1249 [0] NCCL INFO Channel 00/0 : 1[1] -> 0[0] [receive] via NET/Socket/0
"""
"""NCCL without a library for its InfiniBand adapters, NVIDIA/nccl-tests#100; ways in the form of transport/net.cc."""


def all_reduce(ways: str, average: float = 210.99, wrong: int = 0) -> str:
    return HEAD + ways + TAIL.format(average=average, wrong=wrong, word="FAILED" if wrong else "OK")


SWITCHED = """\
        GPU0    GPU1    GPU2    NIC0    NIC1    CPU Affinity    NUMA Affinity   GPU NUMA ID
GPU0     X      NV12    NV12    PXB     PXB     48-63,176-191   3               N/A
GPU1    NV12     X      NV12    PXB     PXB     48-63,176-191   3               N/A
GPU2    NV12    NV12     X      SYS     SYS     16-31,144-159   1               N/A

Legend:

  NV#  = Connection traversing a bonded set of # NVLinks
"""
"""Of a DGX A100, NVIDIA/nccl#1505, of which this is a part."""
APART = """\
        GPU0    GPU1    NIC0    CPU Affinity    NUMA Affinity   GPU NUMA ID
GPU0     X      SYS     PIX     0-55,112-167    0               N/A
GPU1    SYS      X      SYS     0-55,112-167    0               N/A

Legend:

  NV#  = Connection traversing a bonded set of # NVLinks
"""
"""From deepseek-ai/DeepEP#128, of which this is a part."""


def dcgm(*tests: tuple[str, str, str], gpus: int = 2) -> str:
    """Return ``dcgmi diag --json`` in the form of DCGM 4.6.0, testing/python3/dcgm_diag_schema.json.

    Args:
        tests: Name, status of the last GPU, and what it is warned of; all other GPUs pass.
    """
    lines = []
    for name, status, warning in tests:
        results = [
            {"entity_group": "GPU", "entity_group_id": 1, "entity_id": gpu, "status": "Pass"} for gpu in range(gpus)
        ]
        results[-1] |= {"status": status}
        if warning:
            results[-1]["warnings"] = [{"warning": warning, "error_id": 62, "error_category": 7, "error_severity": 2}]
        lines.append({"name": name, "results": results, "test_summary": {"status": status}})
    whole = {"DCGM Diagnostic": {"test_categories": [{"category": "Stress", "tests": lines}]}}
    return json.dumps({**whole, "metadata": {"version": "4.6.0", "Driver Version Detected": "580.95.05"}}, indent=4)


SLOW = "GPU 1 only achieved a memory bandwidth of 1102.12 GB/s, failing to meet 1905.00 GB/s for test 0"
"""In the words of DCGM 4.6.0, dcgmlib/dcgm_errors.h, DCGM_FR_MEMORY_BANDWIDTH_MSG."""
DCGM_3 = """\
{
	"DCGM GPU Diagnostic" :
	{
		"test_categories" :
		[
			{
				"category" : "Deployment",
				"tests" :
				[
					{ "name" : "NVML Library", "results" : [ { "status" : "Pass" } ] },
					{
						"name" : "Persistence Mode",
						"results" : [ { "status" : "Warn", "warnings" : "Persistence mode for GPU 0 is disabled." } ]
					}
				]
			},
			{
				"category" : "Integration",
				"tests" : [ { "name" : "PCIe", "results" : [ { "gpu_id" : "0", "status" : "Skip" } ] } ]
			}
		]
	}
}
"""
"""Of DCGM 3: NVIDIA/DCGM#139, and the words of NVIDIA/NVSentinel#772 about persistence."""
NO_ENGINE = """\
Error: unable to establish a connection to the specified host: localhost
Error: Unable to connect to host engine. Host engine connection invalid/disconnected.
"""
"""From the user guide of DCGM, where no host engine runs."""
