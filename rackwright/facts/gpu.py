"""GPUs, their driver and their errors, as the probe saw them."""

from rackwright.facts.view import Fact, View, optional, optional_flag, optional_float, optional_number


class GpuDriver(View):
    """NVIDIA's driver, as its management library tells of it."""

    version = Fact(str, "``535.261.03``; of the loaded module and the library, which are the same.")
    nvml_version = Fact(str)
    library = Fact(str, "The file that answered under the library's name.")


class GpuProcess(View):
    """Who computes on a GPU."""

    pid = Fact(int)
    name = Fact(optional, "None where it has ended, or lives in a container.")
    memory_bytes = Fact(optional_number, "None where the driver does not tell.")


class GpuInstance(View):
    """A slice of a GPU."""

    id = Fact(int)
    profile = Fact(str, "``1g.10gb``.")
    start = Fact(int, "The first memory slice that it has.")
    size = Fact(int, "How many memory slices it has.")


class Gpu(View):
    """One GPU, by its driver's order. What is None is what the board does not have."""

    index = Fact(int)
    condition = Fact(str, "working, lost, or reset required.")
    uuid = Fact(str, "``GPU-`` and a UUID.")
    name = Fact(str)
    serial = Fact(optional)
    pci_address = Fact(str, "``0000:3b:00.0``.")
    pci_id = Fact(str, "``vendor:device``.")
    memory_bytes = Fact(int)
    memory_used_bytes = Fact(int, "Without what the driver keeps for itself.")
    utilisation_percent = Fact(optional_number, "None while it is divided into instances.")
    temperature_celsius = Fact(optional_number)
    temperature_target_celsius = Fact(optional_number, "The temperature that it is kept at.")
    temperature_target_min_celsius = Fact(optional_number)
    temperature_target_max_celsius = Fact(optional_number)
    power_watts = Fact(optional_float)
    power_limit_watts = Fact(optional_float)
    power_limit_default_watts = Fact(optional_float)
    power_limit_min_watts = Fact(optional_float)
    power_limit_max_watts = Fact(optional_float)
    graphics_clock_mhz = Fact(optional_number, "Of now; NVML does not tell the range that it is locked to.")
    persistence = Fact(optional_flag)
    ecc = Fact(optional_flag)
    ecc_pending = Fact(optional_flag, "What it will be after the next reset.")
    uncorrected_errors = Fact(optional_number, "Of memory, since the driver was started; None without ECC.")
    mig = Fact(optional_flag)
    mig_pending = Fact(optional_flag, "What it will be after the next reset.")

    @property
    def mig_instances(self) -> tuple[GpuInstance, ...]:
        """Those that there are, by their place; none where MIG is off or the board has no such thing."""
        return self.rows("mig_instances", GpuInstance) if self.read("mig_instances") else ()

    @property
    def processes(self) -> tuple[GpuProcess, ...]:
        """Who computes on it."""
        return self.rows("processes", GpuProcess) if self.read("processes") else ()


class AcceleratorUser(View):
    """A process that has an accelerator of another vendor open."""

    pid = Fact(int)
    name = Fact(str)
    device = Fact(str, "``/dev/kfd``.")


class Xid(View):
    """An error that NVIDIA's driver wrote to the kernel's log."""

    pci = Fact(str, "Where the GPU sits, without its function: ``0000:3b:00``.")
    code = Fact(int, "79: the GPU has fallen off the bus.")
    text = Fact(str)
    at = Fact(float, "Seconds since 1970 by the host's clock.")
