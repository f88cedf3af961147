"""Notes about a layout that fits: GPUs without work, and what a published recipe advises against."""

from collections.abc import Iterator

from workloads.serving.fit.layout import Gpus, Layout
from workloads.serving.fit.sizes import Sizes


def layout_notes(sizes: Sizes, layout: Layout, gpus: Gpus) -> Iterator[str]:
    """Yield the notes about *layout* over *gpus*, each a sentence that begins with the layout."""
    if unused := unused_gpus(layout, gpus):
        yield unused
    heads = sizes.heads // layout.tensor_parallel
    if heads < sizes.padded_heads:
        yield (
            f"tensor_parallel {layout.tensor_parallel} gives each GPU {heads} of {sizes.heads} heads, which vLLM's "
            f"kernels of sparse attention pad to {sizes.padded_heads}: vLLM's recipe advises data_parallel with "
            f"expert_parallel, and tensor_parallel {max(1, sizes.heads // sizes.padded_heads)} on Hopper or 1 on "
            "Blackwell."
        )


def unused_gpus(layout: Layout, gpus: Gpus) -> str:
    """Return a sentence about the GPUs that *layout* leaves without work; empty if there are none."""
    unused = gpus.per_host * layout.hosts - layout.gpus
    if unused <= 0:
        return ""
    copies = unused // layout.gpus
    use = f"{copies} more servers with vllm.gpus: {layout.gpus}" if copies else "a declared vllm.tensor_parallel"
    return f"{layout} leaves {unused} of {gpus.per_host} GPUs of the host unused: {use} can use them."
