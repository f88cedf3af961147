"""The memory that vLLM needs on each GPU besides weights and cache: libraries, buffers, graphs and activations.

The formula follows the sources of vLLM 0.32 where they have sizes, and its logs where they do not. **Unverified on
hardware by us.** For DeepSeek-R1 over 8 H200 it gives 6.6 GB, where logs of vLLM report 6.4 and 7.2 GiB; for Llama
3.1 8B on one H100 it gives 2.0 GB, where they report 1.3 to 1.6 GiB without CUDA graphs.
"""

from workloads.serving.fit.layout import Layout, Load
from workloads.serving.fit.sizes import Sizes

MIB = 1 << 20
CONTEXT_BYTES = 500 * MIB
"""Libraries and their workspaces. Logs of vLLM report 0.1 to 0.4 GiB outside PyTorch on one GPU, without CUDA's
context, which its share does not count."""
PEER_BYTES = 512 * MIB
"""Buffers of NCCL and of vLLM's own all-reduce for each further GPU of the host, for all groups together."""
MOST_PEERS = 7
"""GPUs beyond one host share the buffers of the network."""
GRAPH_BYTES_PER_LAYER = 10 * MIB
"""CUDA graphs: an estimate. Logs of vLLM report 0.3 to 0.6 GiB for the 32 layers of Llama 3.1 8B."""
LATENT_ROWS = 64 << 10
"""The most rows of cache that a prefill reads at once. Source: determine_chunked_prefill_workspace_size, vLLM 0.32."""
LATENT_TEXTS = 8
"""Texts of the full length that these rows have room for at least."""
VALUE_BYTES = 2
LOGIT_BYTES = 8
"""Bytes of one logit in float32, and of its copy in the sampler."""


def overhead_bytes(sizes: Sizes, layout: Layout, load: Load, stage_layers: int) -> int:
    """Return the bytes on each GPU of a stage with *stage_layers* layers.

    Buffers of DeepEP and other libraries for expert parallelism are not counted: they follow from their settings.
    """
    peers = min(layout.gpus - 1, MOST_PEERS)
    fixed = CONTEXT_BYTES + peers * PEER_BYTES + stage_layers * GRAPH_BYTES_PER_LAYER
    return fixed + _absorbed_bytes(sizes, layout, stage_layers) + activation_bytes(sizes, layout, load)


def activation_bytes(sizes: Sizes, layout: Layout, load: Load) -> int:
    """Return the peak of activations while vLLM profiles a batch of the largest size."""
    tokens = load.batch_tokens
    stream = 3 * tokens * sizes.hidden * VALUE_BYTES  # the residual, its norm, and the layer's result
    mlp = 3 * tokens * sizes.intermediate * VALUE_BYTES // layout.tensor_parallel
    logits = load.texts_per_rank(layout) * sizes.vocabulary * LOGIT_BYTES // layout.tensor_parallel
    attention, workspace = _latent(sizes, layout, load)
    return stream + workspace + max(mlp, _experts(sizes, layout, tokens), attention) + logits


def _experts(sizes: Sizes, layout: Layout, tokens: int) -> int:
    """Return the bytes of a batch within the experts: each token once for each of its experts.

    Source: intermediate caches of fused_experts, vLLM 0.32.
    """
    width = -(-sizes.expert_width // (1 if layout.expert_parallel else layout.shards))
    rows = tokens * sizes.experts_per_token
    return rows * (max(sizes.hidden, 2 * width) + width) * VALUE_BYTES


def _latent(sizes: Sizes, layout: Layout, load: Load) -> tuple[int, int]:
    """Return the bytes of keys and values computed from latents, and of the workspace for the latents."""
    if not sizes.has_latent:
        return 0, 0
    rows = min(LATENT_TEXTS * load.context_tokens, LATENT_ROWS)
    heads = -(-sizes.heads // layout.tensor_parallel)
    return rows * heads * sizes.latent_head_values * VALUE_BYTES, rows * sizes.latent_values * VALUE_BYTES


def _absorbed_bytes(sizes: Sizes, layout: Layout, stage_layers: int) -> int:
    """Return the bytes of vLLM's second copy of kv_b_proj, for decoding. Source: W_UV and W_UK_T, mla_attention.py."""
    heads = -(-sizes.heads // layout.tensor_parallel)
    return stage_layers * heads * sizes.latent_head_values * sizes.latent_rank * VALUE_BYTES
