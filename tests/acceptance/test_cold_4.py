"""Line 4: what loading costs from each tier, with the ways of others beside it in the same run."""

import json
import sys
from typing import Any

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log

OF_BOTO3, OF_RAW_GETS, OF_RAW_READS = 2.0, 0.8, 0.8


@line("cold", 4)
def test_weights_load_from_each_tier_as_fast_as_raw_reads(log: Log) -> str:
    """512 MB from the store: twice boto3's default and 80 % of raw GETs; from the drive: 80 % of raw reads."""
    done = log.run([sys.executable, "-m", "benchmarks.cold"], timeout=3600)
    need(done.returncode == 0, f"the benchmark ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    ratios = figures["ratios"]
    text = (
        f"from the store {_rate(figures, 'cold')}, {ratios['cold']['boto3']}x boto3 and {ratios['cold']['raw']}x raw "
        f"GETs; from the drive {_rate(figures, 'drive')}, {ratios['drive']['raw']}x raw reads; "
        f"cached {_rate(figures, 'drive, cached')}; {_busy(figures)}"
    )
    reached = (
        ratios["cold"]["boto3"] >= OF_BOTO3
        and ratios["cold"]["raw"] >= OF_RAW_GETS
        and ratios["drive"]["raw"] >= OF_RAW_READS
    )
    need(reached, f"{text}; wanted are {OF_BOTO3}x, {OF_RAW_GETS}x and {OF_RAW_READS}x")
    return text


def _rate(figures: dict[str, Any], tier: str) -> str:
    return f"{figures['bytes'] / figures['medians'][tier]['rackwright']['seconds'] / 1e6:.0f} MB/s"


def _busy(figures: dict[str, Any]) -> str:
    """Return the processors that each way from the store kept busy: the server had the rest."""
    ways = figures["medians"]["cold"].items()
    shares = ", ".join(f"{way} {of['processor_seconds'] / of['seconds']:.1f}" for way, of in ways)
    return f"processors busy with the client from the store: {shares}"
