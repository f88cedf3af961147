"""How fast weights come into memory from each tier: `python -m benchmarks.cold [NAME=DIRECTORY]...`.

The same weights are in an object store on loopback (SeaweedFS), and in a directory of each named tier, by default one
on the drive of temporary files. Each measurement is a process of its own that has imported its libraries, in turns:

- cold, from the store: our loader, into memory with its digest; boto3's default download, and that of the AWS Common
  Runtime (CRT, in C) as the AWS CLI uses it, into a file in memory; raw GETs of parts by Python's own HTTP client,
  without a digest.
- each tier, dropped from the page cache before, and then cached: a server's way (all pages asked for at once, and the
  digest of the file), torch.load, safetensors, and raw reads, past the page cache where the filesystem can.

torch.load and safetensors need the environment of the workloads, and the CRT the package awscrt (`pip install awscrt`);
they are left out without it.
"""

import hashlib
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import start

ROUNDS, TENSORS, TENSOR_BYTES = 5, 16, 32 << 20
STREAMS: tuple[int, ...] = (1, 2, 4, 8, 16)
OPTIONS: tuple[str, ...] = ()
"""Options for the processes of the single measurements."""
COLD = "cold"
STORE_WAYS, TIER_WAYS = ("rackwright", "boto3", "CRT", "raw"), ("rackwright", "torch.load", "safetensors", "raw")
NEED_TORCH = ("torch.load", "safetensors")
BUCKET, WEIGHTS, PT, DIGEST = "models", "weights.safetensors", "weights.pt", "digest"
PART_BYTES, BLOCK_BYTES, PAGE_BYTES = 16 << 20, 4 << 20, 4096
Measured = dict[str, dict[str, list[dict[str, float]]]]
"""The measurements of each way, by tier."""


def main(*arguments: str) -> None:
    match arguments:
        case ("child", way, place):
            child(way, place)
        case ("make", directory):
            make(Path(directory))
        case _:
            tiers = dict(each.split("=", 1) for each in arguments)
            with tempfile.TemporaryDirectory(prefix="rackwright-bench-", dir=os.environ.get("RACKWRIGHT_BENCH")) as own:
                measure(Path(own), {name: Path(place) for name, place in (tiers or {"drive": own}).items()})


def measure(scratch: Path, tiers: dict[str, Path]) -> None:
    from tests.support.object_store import seaweedfs

    python = workloads_python()
    ways = [way for way in TIER_WAYS if python or way not in NEED_TORCH]
    store_ways = [way for way in STORE_WAYS if way != "CRT" or find_spec("awscrt")]
    with tempfile.TemporaryDirectory(dir=scratch) as of_store:
        made: dict[str, tempfile.TemporaryDirectory[str]] = {}
        try:
            for name, directory in tiers.items():
                made[name] = tempfile.TemporaryDirectory(prefix="rackwright-bench-", dir=directory)
                run(python or sys.executable, "make", made[name].name)
            with seaweedfs(Path(of_store)) as server:
                upload(server.client(), Path(next(iter(made.values())).name) / WEIGHTS)
                measured: Measured = {}
                for number in range(ROUNDS):
                    order = -1 if number % 2 else 1
                    for way in store_ways[::order]:
                        note(measured, COLD, way, run(sys.executable, "child", f"store {way}", server.url))
                    for name, directory in made.items():
                        for way in ways[::order]:
                            interpreter = python if python and way in NEED_TORCH else sys.executable
                            forget(Path(directory.name))
                            note(measured, name, way, run(interpreter, "child", way, directory.name))
                            note(measured, f"{name}, cached", way, run(interpreter, "child", way, directory.name))
                streams = run(sys.executable, "child", "store streams", server.url)
        finally:
            for directory in made.values():
                directory.cleanup()
    report(measured, streams)


def make(directory: Path) -> None:
    """Write random weights as safetensors, with their digest, and by torch.save if there is PyTorch."""
    names = [f"layer-{number}" for number in range(TENSORS)]
    shape, ends = [TENSOR_BYTES // 4], [(number + 1) * TENSOR_BYTES for number in range(TENSORS)]
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [end - TENSOR_BYTES, end]}
        for name, end in zip(names, ends, strict=True)
    }
    head = json.dumps(header).encode()
    digest = hashlib.sha256()
    with (directory / WEIGHTS).open("wb") as file:
        for block in (len(head).to_bytes(8, "little"), head, *(os.urandom(TENSOR_BYTES) for _ in range(TENSORS))):
            digest.update(block)
            file.write(block)
    (directory / DIGEST).write_text(digest.hexdigest())
    try:
        import torch
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        pass
    else:
        torch.save(load_file(directory / WEIGHTS), directory / PT)
    os.sync()
    print("{}")


def upload(client: Any, weights: Path) -> None:
    from s3transfer.manager import TransferManager

    client.create_bucket(Bucket=BUCKET)
    with TransferManager(client) as manager:
        manager.upload(str(weights), BUCKET, WEIGHTS).result()


def child(way: str, place: str) -> None:
    """Print the seconds of one load, by the clock and of the processor, without those of imports."""
    load = LOADERS[way](place)
    began, used = time.perf_counter(), time.process_time()
    found = load()
    seconds = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - used}
    print(json.dumps(found if isinstance(found, dict) else seconds))


def store_by_rackwright(url: str) -> Callable[[], object]:
    from rackwright.tiering import loader
    from rackwright.tiering.bucket import Bucket
    from rackwright.tiering.meter import Meter
    from tests.support.object_store import Server

    bucket = Bucket(BUCKET, Server(url).client())
    size = bucket.client.head_object(Bucket=BUCKET, Key=WEIGHTS)["ContentLength"]
    meter = Meter(lambda text: None, "", size)
    return lambda: loader.load(bucket, WEIGHTS, size, meter)


def store_by_boto3(url: str) -> Callable[[], object]:
    import boto3
    from boto3.s3.transfer import S3Transfer  # noqa: F401  before the clock
    from botocore.config import Config

    from tests.support.object_store import ACCESS_KEY, KEYS

    client = boto3.client(
        "s3", "us-east-1", endpoint_url=url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=KEYS[ACCESS_KEY],
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    client.head_object(Bucket=BUCKET, Key=WEIGHTS)

    def load() -> None:
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:  # memory, as the others use
            client.download_file(BUCKET, WEIGHTS, file.name)

    return load


def store_by_crt(url: str) -> Callable[[], object]:
    from botocore.config import Config
    from botocore.credentials import Credentials
    from botocore.session import Session
    from s3transfer import crt

    from tests.support.object_store import ACCESS_KEY, KEYS

    session = Session()
    session.set_default_client_config(Config(s3={"addressing_style": "path"}))
    credentials = crt.BotocoreCRTCredentialsWrapper(Credentials(ACCESS_KEY, KEYS[ACCESS_KEY]))
    provider = credentials.to_crt_credentials_provider()
    client = crt.create_s3_crt_client("us-east-1", use_ssl=False, crt_credentials_provider=provider)
    serializer = crt.BotocoreCRTRequestSerializer(session, {"region_name": "us-east-1", "endpoint_url": url})

    def load() -> None:
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
            with crt.CRTTransferManager(client, serializer) as manager:
                manager.download(BUCKET, WEIGHTS, file.name).result()
            # the manager renames its own file at its end
            if Path(file.name).stat().st_size < TENSORS * TENSOR_BYTES:
                raise SystemExit("the CRT has written less than the weights")

    return load


def store_raw(url: str, streams: int = 8) -> Callable[[], object]:
    from tests.support.object_store import Server

    client = Server(url).client()
    size = client.head_object(Bucket=BUCKET, Key=WEIGHTS)["ContentLength"]
    signed = urlsplit(client.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": WEIGHTS}))
    host, target = signed.netloc, f"{signed.path}?{signed.query}"

    def get(first: int) -> None:
        connection = HTTPConnection(host)
        connection.request("GET", target, headers={"Range": f"bytes={first}-{min(first + PART_BYTES, size) - 1}"})
        answer, buffer = connection.getresponse(), bytearray(1 << 20)
        while answer.readinto(buffer):
            pass
        connection.close()

    def load() -> None:
        with ThreadPoolExecutor(streams) as pool:
            list(pool.map(get, range(0, size, PART_BYTES)))

    return load


def store_by_streams(url: str) -> Callable[[], object]:
    """Return what measures the bytes per second of raw GETs, by the number of streams."""
    from tests.support.object_store import Server

    size = Server(url).client().head_object(Bucket=BUCKET, Key=WEIGHTS)["ContentLength"]

    def rate(streams: int) -> float:
        load = store_raw(url, streams)
        began = time.perf_counter()
        load()
        return float(size / (time.perf_counter() - began))

    return lambda: {str(streams): rate(streams) for streams in STREAMS}


def by_server(directory: str) -> Callable[[], object]:
    """Return what a server does with a published file before it serves."""
    from workloads.serving import model

    place = Path(directory)
    weights = model.ModelFile(bytes=(place / WEIGHTS).stat().st_size, sha256=(place / DIGEST).read_text())
    several = {WEIGHTS: weights}
    published = model.Model(name="weights", version=model.version_of(several), runtime="onnx", files=several)

    def load() -> None:
        model.fetch_ahead(place, published)
        model.verify(place, published)

    return load


def by_torch(directory: str) -> Callable[[], object]:
    import torch

    return lambda: touch(torch.load(Path(directory) / PT, weights_only=True))


def by_safetensors(directory: str) -> Callable[[], object]:
    from safetensors.torch import load_file

    return lambda: touch(load_file(Path(directory) / WEIGHTS))


def touch(tensors: dict[str, Any]) -> None:
    """Read a byte of each page: a mapped tensor comes from the drive at its first use."""
    import torch

    for tensor in tensors.values():
        tensor.view(torch.uint8)[::PAGE_BYTES].sum().item()


def by_raw_reads(directory: str) -> Callable[[], object]:
    path = Path(directory) / WEIGHTS

    def load() -> None:
        buffer = mmap.mmap(-1, BLOCK_BYTES)  # whose address is a multiple of a page, as O_DIRECT requires
        for flags in (os.O_DIRECT, 0):
            handle = os.open(path, os.O_RDONLY | flags)
            try:
                while os.readv(handle, [buffer]):
                    pass
                return
            except OSError:  # this filesystem has no O_DIRECT
                continue
            finally:
                os.close(handle)

    return load


LOADERS: dict[str, Callable[[str], Callable[[], object]]] = {
    "store rackwright": store_by_rackwright,
    "store boto3": store_by_boto3,
    "store CRT": store_by_crt,
    "store raw": store_raw,
    "store streams": store_by_streams,
    "rackwright": by_server,
    "torch.load": by_torch,
    "safetensors": by_safetensors,
    "raw": by_raw_reads,
}


def workloads_python() -> str | None:
    """Return the Python of the workloads' environment; None if it is not installed."""
    from rackwright.toolchain import workloads

    environment = workloads.WorkloadsEnvironment(workloads.training_directory())
    return str(environment.python) if environment.python.exists() else None


def forget(directory: Path) -> None:
    """Drop the files of *directory*, which are on the drive, from the page cache."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def note(measured: Measured, tier: str, way: str, figures: dict[str, float]) -> None:
    measured.setdefault(tier, {}).setdefault(way, []).append(figures)


def report(measured: Measured, streams: dict[str, float]) -> None:
    """Print the medians and how many times as fast ours is; the last line is for machines."""
    size = TENSORS * TENSOR_BYTES
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {size / 1e6:.0f} MB, medians of {ROUNDS} rounds")
    medians = {
        tier: {
            way: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            for way, rounds in ways.items()
        }
        for tier, ways in measured.items()
    }
    ratios = {
        tier: {way: round(of["seconds"] / ways["rackwright"]["seconds"], 2) for way, of in ways.items()}
        for tier, ways in medians.items()
    }
    for tier, ways in medians.items():
        for way, of in ways.items():
            rate, used = size / of["seconds"] / 1e6, of["processor_seconds"] / of["seconds"]
            print(
                f"{tier:<16} {way:<12} {of['seconds']:7.2f} s   {rate:7.0f} MB/s   {used:.1f} processors busy"
                f"   rackwright {ratios[tier][way]}x as fast"
            )
    print("raw GETs: " + ", ".join(f"{count} streams {rate / 1e6:.0f} MB/s" for count, rate in streams.items()))
    print(json.dumps({"bytes": size, "medians": medians, "ratios": ratios, "streams": streams}))


def run(python: str, *arguments: str) -> dict[str, float]:
    argv = [python, "-m", "benchmarks.cold", *arguments, *OPTIONS]
    # botocore takes the CRT for signatures as soon as it is installed
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "BOTO_DISABLE_CRT": str("store CRT" not in arguments).lower()}
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    small = {"ROUNDS": 1, "TENSORS": 2, "TENSOR_BYTES": 1 << 20, "STREAMS": (1, 2), "OPTIONS": ("--smallest",)}
    start(main, (globals(), small))
