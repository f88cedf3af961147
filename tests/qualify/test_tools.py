"""What is read of what the vendors' tools print, and what is not taken for a result."""

import pytest

from rackwright.qualify import dcgm, nccl, nvbandwidth, tool
from rackwright.qualify.item import MeasurementFailed
from tests.qualify import recordings


def test_of_many_ways_the_slowest_counts():
    text = recordings.nvbandwidth(
        ("host_to_device_memcpy_ce", [recordings.NVBANDWIDTH_ROW]),
        ("device_to_device_memcpy_read_ce", recordings.NVBANDWIDTH_PAIRS),
    )

    assert nvbandwidth.parse(f"nvbandwidth Version: v0.8\n{text}") == {
        "host_to_device_memcpy_ce": 25.94,
        "device_to_device_memcpy_read_ce": 274.89,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "printed no result"),
        ("{}", "printed no result"),
        ('{"nvbandwidth": {"error": "CUDA_ERROR_NO_DEVICE: no device"}}', "failed: CUDA_ERROR_NO_DEVICE"),
        (recordings.nvbandwidth(("device_to_device_memcpy_read_ce", [["N/A"]])), "printed no result"),
        (recordings.nvbandwidth(("device_to_device_memcpy_read_ce", None)), "printed no result"),
        (
            recordings.nvbandwidth(("device_to_device_memcpy_read_ce", []), status="Waived"),
            "device_to_device_memcpy_read_ce ended as Waived: no message",
        ),
    ],
)
def test_what_nvbandwidth_did_not_measure_is_no_figure(text, expected):
    with pytest.raises(MeasurementFailed, match=expected):
        nvbandwidth.parse(text)


@pytest.mark.parametrize(
    ("ways", "transports"),
    [
        (recordings.NVLINK, ("NVLink",)),
        (recordings.PEERS_OVER_PCIE, ("PCIe",)),
        (recordings.SHARED_MEMORY, ("shared memory",)),
        (recordings.RDMA, ("RDMA",)),
        (recordings.FALLEN_BACK, ("TCP",)),
        (recordings.NVLINK + recordings.FALLEN_BACK, ("NVLink", "TCP")),
        (recordings.FALLEN_BACK.replace("Socket/0", "AWS/0"), ("NET/AWS/0",)),
    ],
)
def test_the_way_is_named_as_nccl_took_it(ways, transports):
    found = nccl.parse(recordings.all_reduce(ways))

    assert (found.gb_per_s, found.transports) == (210.99, transports)


def test_a_slower_way_than_wanted_is_a_failure_that_names_both():
    assert nccl.describe_fallback(nccl.parse(recordings.all_reduce(recordings.RDMA)), "RDMA") == ""
    assert (
        nccl.describe_fallback(nccl.parse(recordings.all_reduce(recordings.FALLEN_BACK)), "RDMA")
        == "went over TCP, not over RDMA alone"
    )
    mixed = nccl.parse(recordings.all_reduce(recordings.RDMA + recordings.FALLEN_BACK))
    assert nccl.describe_fallback(mixed, "RDMA") == "went over TCP, not over RDMA alone"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "its last line: nothing"),
        (
            recordings.HEAD + "worker-1: Test NCCL failure common.cu:1057 'internal error'\n",
            "its last line: worker-1: Test",
        ),
        (recordings.all_reduce(recordings.NVLINK, wrong=50), "got 50 wrong values"),
        (recordings.all_reduce(""), "logged no transports"),
        (recordings.all_reduce(recordings.NVLINK.replace("Pattern", "Graph")), "no links between GPUs"),
    ],
)
def test_an_all_reduce_that_came_to_nothing_is_no_figure(text, expected):
    with pytest.raises(MeasurementFailed, match=expected):
        nccl.parse(text)


def test_links_between_gpus_are_seen_and_the_legend_is_none():
    assert nccl.has_nvlink(recordings.SWITCHED)
    assert not nccl.has_nvlink(recordings.APART)


def test_a_diagnosis_says_what_failed_and_in_whose_words():
    found = dcgm.parse(
        recordings.dcgm(("memory_bandwidth", "Fail", recordings.SLOW), ("pcie", "Pass", ""), ("eud", "Skip", ""))
    )

    assert found.failed == (f"memory_bandwidth: Fail: {recordings.SLOW}",)
    # of one test that one GPU skipped and another passed, something is known
    assert (found.passed, found.skipped) == (("pcie", "eud"), ())


def test_a_test_that_all_gpus_skip_is_not_passed():
    assert dcgm.parse(recordings.dcgm(("eud", "Skip", ""), gpus=1)).skipped == ("eud",)


def test_a_summary_that_passes_over_a_failure_is_not_believed():
    text = recordings.dcgm(("memory", "Fail", "")).replace(
        '"test_summary": {\n                            "status": "Fail"', '"test_summary": {"status": "Pass"'
    )

    assert '"status": "Pass"' in text
    assert dcgm.parse(text).failed == ("memory: Fail",)


def test_dcgm_3_is_read_as_well():
    found = dcgm.parse(recordings.DCGM_3)

    assert (found.passed, found.skipped) == (("NVML Library",), ("PCIe",))
    assert found.failed == ("Persistence Mode: Warn: Persistence mode for GPU 0 is disabled.",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (recordings.NO_ENGINE, "its last line: Error: Unable to connect to host engine. Host engine"),
        ("", "its last line: nothing"),
        ('{"DCGM Diagnostic": {"runtime_error": "nvvs was killed"}}', "DCGM failed: nvvs was killed"),
        ('{"DCGM Diagnostic": {"test_categories": []}}', "reported no tests"),
        ("{ half", "its last line: { half"),
        ('{"DCGM Diagnostic": {"test_categories": [{"category": "Stress"}]}}', "a result of unknown form"),
        ('{"DCGM Diagnostic": {}}', "a result of unknown form"),
    ],
)
def test_a_diagnosis_that_was_not_made_is_none(text, expected):
    with pytest.raises(MeasurementFailed, match=expected):
        dcgm.parse(text)


def test_tools_are_found_by_their_paths():
    printed = "dcgmi /usr/bin/dcgmi\nall_reduce_perf \nnvidia-smi /usr/bin/nvidia-smi\nnvbandwidth \nrdma mlx5_0\n"

    assert tool.parse_paths(printed) == {
        "dcgmi": "/usr/bin/dcgmi",
        "nvidia-smi": "/usr/bin/nvidia-smi",
        "rdma": "mlx5_0",
    }


@pytest.mark.parametrize(("driver", "cuda"), [("535.261.03", "12"), ("580.95.05", "13")])
def test_dcgms_own_copy_is_taken_for_a_cuda_that_the_driver_runs(driver, cuda):
    assert tool.find_command(driver)[-1] == cuda
