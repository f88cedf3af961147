"""Alert thresholds for GPUs, drives and hosts."""

from typing import Annotated

from pydantic import Field

from rackwright.schema.base import Amount, Schema
from rackwright.schema.units import Size

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False, strict=False)]


class Alerts(Schema):
    """Thresholds of `rackwright gpu top` and of the rules of `monitoring`; a higher value is an alert.

    A lost GPU is always an alert.
    """

    utilisation_percent: Annotated[int, Field(ge=0, le=100)] = 95
    """Share of the last sample period in which the GPU computed, in percent; 100 disables the alert."""
    memory_used: Size = Size("9000MiB")
    """Memory in use. The default, from the practitioners' guide, suits boards of 16GB; larger boards need more."""
    temperature_celsius: Amount = 85
    """Core temperature, below the limit at which boards slow down by themselves."""
    uncorrected_errors: Amount = 0
    """Memory errors that ECC detected and could not correct, since the driver was loaded."""
    xid_minutes: Amount = 60
    """Age up to which an Xid error of the driver is an alert; 0 disables the alert."""
    io_latency_milliseconds: Amount = 500
    """Mean time of the requests to a drive. The default is from the practitioners' guide."""
    filesystem_percent: Annotated[int, Field(ge=1, le=100)] = 90
    """Used share of a filesystem, and of its inodes, in percent; 100 disables the alert."""
    full_days: Annotated[int, Field(ge=1, le=365)] = 7
    """Days within which a filesystem would be full if it filled up as in the last 6 hours."""
    memory_percent: Annotated[int, Field(ge=1, le=100)] = 95
    """Used share of the host's memory, in percent; 100 disables the alert."""
    clock_milliseconds: Amount = 100
    """Offset of the host's clock from its servers."""
    packet_error_percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=False)] = 1.0
    """Share of the packets of a link with an error, in percent."""
    server_seconds: Seconds = 60.0
    """Time within which a model server completes 99 of 100 requests. Texts of large models need more."""
    first_token_seconds: Seconds = 10.0
    """Time within which the first token of 99 of 100 texts comes."""
    queue_requests: Amount = 32
    """Requests that wait for a model server all the time."""
    server_error_percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=False)] = 1.0
    """Share of the requests that a model server answers with an error of its own, in percent."""
    run_minutes: Annotated[int, Field(ge=1, le=10080)] = 30
    """Time within which a training run makes a step, in minutes."""
    run_slowdown: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False, strict=False)] = 2.0
    """Time of a step of a training run, as a multiple of its median of a day."""
    expert_load: Annotated[float, Field(ge=1, le=10000, allow_inf_nan=False, strict=False)] = 10.0
    """Tokens of the busiest expert of a training run, as a multiple of the mean."""
    idle_percent: Annotated[int, Field(ge=0, le=100)] = 5
    """Use of a GPU that a training run has, in percent, below which it counts as not used; 0 disables the alert."""
    clock_apart_seconds: Seconds = 2.0
    """Difference between the clocks of a host and of the monitoring host."""
    certificate_days: Annotated[int, Field(ge=0, le=365)] = 14
    """Days before the end of a certificate; 0 disables the alert until it has ended."""
    etcd_percent: Annotated[int, Field(ge=1, le=100)] = 95
    """Used share of the quota of etcd's database, in percent; 100 disables the alert. Source: etcd's own rules."""
    etcd_milliseconds: Amount = 500
    """Time of 99 of 100 writes of etcd to its drive. Source: etcd's own rules."""
    service_seconds: Seconds = 2.0
    """Time within which a service such as MLflow says that it works."""
    balancer_connections: Amount = 3000
    """Connections of a load balancer, which takes 4096 for each processor, two of them for each request."""
    object_store_error_percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=False)] = 1.0
    """Share of the requests that an object store answers with an error of its own, in percent."""
    drive_celsius: Amount = 65
    """Temperature of a drive."""
    scrub_days: Annotated[int, Field(ge=1, le=365)] = 40
    """Days since the last scrub of a tier, which by default is one in a month."""
