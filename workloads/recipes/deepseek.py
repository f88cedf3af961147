"""Language models of DeepSeek-V3's shape: a tiny one for a laptop, and the full one."""

import sysconfig

from workloads.training.config import DeepseekV3, Optimizer, Saving, Schedule, Text, TrainingConfig


def deepseek_v3_tiny() -> TrainingConfig:
    """Return a model of the same shape with 0.8 M parameters, trained on the source of Python's standard library."""
    return TrainingConfig(
        name="deepseek-v3-tiny",
        model=DeepseekV3(
            vocab_size=256,
            hidden_size=128,
            intermediate_size=256,
            moe_intermediate_size=64,
            num_hidden_layers=3,
            first_k_dense_replace=1,
            num_attention_heads=4,
            n_routed_experts=8,
            n_shared_experts=1,
            num_experts_per_tok=2,
            n_group=2,
            topk_group=1,
            q_lora_rank=48,
            kv_lora_rank=32,
            qk_nope_head_dim=32,
            qk_rope_head_dim=16,
            v_head_dim=32,
            max_position_embeddings=512,
        ),
        data=Text(path=sysconfig.get_path("stdlib"), pattern="*.py", sequence_length=128, bytes_at_most=2_000_000),
        steps=200,
        global_batch=8,
        optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.1, clip_norm=1.0),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        expert_bias_speed=0.01,  # in 200 steps, where the full model has 100,000
        saving=Saving(every_steps=50),
    )


def deepseek_v3() -> TrainingConfig:
    """Return the full model with 671 billion parameters; the memory check refuses it on a single device.

    Source of the sizes: DeepSeek-V3 Technical Report, arXiv:2412.19437, section 4.2, and transformers' defaults.
    """
    return TrainingConfig(
        name="deepseek-v3",
        model=DeepseekV3(
            vocab_size=129_280,
            hidden_size=7168,
            intermediate_size=18_432,
            moe_intermediate_size=2048,
            num_hidden_layers=61,
            first_k_dense_replace=3,
            num_attention_heads=128,
            n_routed_experts=256,
            n_shared_experts=1,
            num_experts_per_tok=8,
            n_group=8,
            topk_group=4,
            q_lora_rank=1536,
            kv_lora_rank=512,
            qk_nope_head_dim=128,
            qk_rope_head_dim=64,
            v_head_dim=128,
            max_position_embeddings=4096,
        ),
        data=Text(path="/srv/hot/text", sequence_length=4096),
        steps=100_000,
        global_batch=1024,
        accumulate=8,
        optimizer=Optimizer(learning_rate=2.2e-4, weight_decay=0.1, clip_norm=1.0),
        schedule=Schedule(kind="linear_ramp", warmup_steps=2000),
        saving=Saving(every_steps=500, keep_last=2, keep_every=5000),
    )
