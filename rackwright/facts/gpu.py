"""Views of GPUs, their driver and their errors."""

from functools import cached_property

from rackwright.facts.view import Fact, View, optional, optional_flag, optional_float, optional_number, texts


class GpuDriver(View):
    """NVIDIA's driver, as its management library reports it."""

    version = Fact(str, "Version of the loaded module and of the library, which are equal: ``535.261.03``.")
    nvml_version = Fact(str, "Version of the management library (NVML).")
    library = Fact(str, "Path of the library file that is loaded.")


class GpuProcess(View):
    """A process that computes on a GPU."""

    pid = Fact(int, "Number of the process.")
    name = Fact(optional, "Program name; None if the process ended or runs in a container.")
    memory_bytes = Fact(optional_number, "GPU memory in bytes; None if the driver does not report it.")


class GpuInstance(View):
    """A slice of a GPU."""

    id = Fact(int, "Number of the GPU instance.")
    profile = Fact(str, "``1g.10gb``.")
    start = Fact(int, "Number of its first memory slice.")
    size = Fact(int, "Number of memory slices.")


class GpuFacts(View):
    """One GPU, in the order of the driver; None stands for a feature that the board does not have."""

    index = Fact(int, "Number of the GPU in the driver's order.")
    condition = Fact(str, "working, lost, or reset required.")
    uuid = Fact(str, "``GPU-`` and a UUID.")
    name = Fact(str, "Product name.")
    serial = Fact(optional, "Serial of the board; None on boards without one.")
    pci_address = Fact(str, "``0000:3b:00.0``.")
    pci_id = Fact(str, "``vendor:device``.")
    memory_bytes = Fact(int, "Size of the memory in bytes.")
    memory_used_bytes = Fact(int, "Used memory, without the driver's own reserve.")
    utilisation_percent = Fact(optional_number, "Utilisation; None while the GPU is divided into instances.")
    temperature_celsius = Fact(optional_number, "Temperature in degrees Celsius.")
    temperature_target_celsius = Fact(optional_number, "Temperature that the board regulates to.")
    temperature_target_min_celsius = Fact(optional_number, "Least temperature that can be the target.")
    temperature_target_max_celsius = Fact(optional_number, "Greatest temperature that can be the target.")
    power_watts = Fact(optional_float, "Power draw in watts.")
    power_limit_watts = Fact(optional_float, "Power limit in force, in watts.")
    power_limit_default_watts = Fact(optional_float, "Power limit of the board without a setting, in watts.")
    power_limit_min_watts = Fact(optional_float, "Least power limit that the board accepts, in watts.")
    power_limit_max_watts = Fact(optional_float, "Greatest power limit that the board accepts, in watts.")
    graphics_clock_mhz = Fact(optional_number, "Current clock; NVML does not report a locked range.")
    persistence = Fact(optional_flag, "Whether the driver stays loaded without a process.")
    ecc = Fact(optional_flag, "Whether memory errors are corrected (ECC) now.")
    ecc_pending = Fact(optional_flag, "ECC mode after the next reset.")
    uncorrected_errors = Fact(optional_number, "Uncorrected memory errors since the driver started; None without ECC.")
    mig = Fact(optional_flag, "Whether the GPU is divided into instances (MIG) now.")
    mig_pending = Fact(optional_flag, "MIG mode after the next reset.")

    @property
    def mig_instances(self) -> tuple[GpuInstance, ...]:
        """GPU instances in the order of their memory slices; empty if MIG is off or not supported."""
        return self.rows("mig_instances", GpuInstance) if self.read("mig_instances") else ()

    @property
    def processes(self) -> tuple[GpuProcess, ...]:
        """Processes that compute on the GPU."""
        return self.rows("processes", GpuProcess) if self.read("processes") else ()


class AcceleratorUser(View):
    """A process that uses an accelerator of another vendor than NVIDIA."""

    pid = Fact(int, "Number of the process.")
    name = Fact(str, "Program name.")
    device = Fact(str, "``/dev/kfd``.")


class Xid(View):
    """An error that NVIDIA's driver wrote to the kernel's log."""

    pci = Fact(str, "PCI address of the GPU without the function: ``0000:3b:00``.")
    code = Fact(int, "Xid number; 79 means that the GPU has fallen off the bus.")
    text = Fact(str, "Text of the message.")
    at = Fact(float, "Seconds since 1970 by the host's clock.")


class GpuAssignmentFacts(View):
    """The GPUs of a run or a server, as rackwright noted them on the host."""

    fleet = Fact(str, "Fleet of the run or server.")
    gpus = Fact(texts, "Declared GPUs: indices in the order of the PCI bus, or UUIDs.")
    uuids = Fact(texts, "UUIDs of these GPUs at that time; empty if the driver reported none.")


class HostAccelerators(View):
    """The GPUs of a host, and the processes on other accelerators."""

    @property
    def gpu_driver(self) -> GpuDriver:
        return GpuDriver(self.read("gpu_driver"), "gpu_driver")

    @cached_property
    def gpus(self) -> tuple[GpuFacts, ...]:
        """GPUs that NVIDIA's driver reports; unknown without an answer of the driver."""
        return self.rows("gpus", GpuFacts, "index")

    @property
    def gpu_owners(self) -> tuple[str, ...]:
        """Names of the runs and servers with GPUs, ``run-NAME`` and ``server-NAME``."""
        return tuple(sorted(self.table("gpu_assignments")))

    def gpu_owners_of(self, index: int, uuid: str | None) -> tuple[str, ...]:
        """Return the runs and servers that have the GPU *index*, by its *uuid* where UUIDs are noted."""
        noted = {owner: self.gpu_assignment(owner) for owner in self.gpu_owners}
        return tuple(
            owner
            for owner, each in noted.items()
            if each is not None and (uuid in each.uuids if each.uuids else str(index) in each.gpus)
        )

    def gpu_assignment(self, owner: str) -> GpuAssignmentFacts | None:
        """Return the GPUs of a run or a server; None if it has none."""
        return self.entry("gpu_assignments", owner, GpuAssignmentFacts)

    @property
    def xids(self) -> tuple[Xid, ...]:
        """Latest GPU errors since the kernel started, the newest last."""
        return self.rows("xids", Xid)

    @property
    def accelerator_users(self) -> tuple[AcceleratorUser, ...]:
        """Processes that use an accelerator of another vendor than NVIDIA."""
        return self.rows("accelerator_users", AcceleratorUser)
