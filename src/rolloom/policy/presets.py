"""Named architectures: two that run on a laptop, and the published members of the Nemotron 3 family.

Sources of the published ones: the reports (arXiv 2512.20848, 2604.12374) and the config.json of the released
checkpoints NVIDIA-Nemotron-3-Nano-4B-BF16, -Nano-30B-A3B-BF16 and -Super-120B-A12B-BF16.
"""

from __future__ import annotations

from typing import Any

_RELEASED: dict[str, Any] = {
    "vocab_size": 131072,
    "head_dim": 128,
    "ssm_state_size": 128,
    "n_groups": 8,
    "max_position_embeddings": 262144,
}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "pattern": "M*EM*-ME",
        "vocab_size": 1024,
        "hidden_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 256,
        "ssm_state_size": 32,
        "mamba_num_heads": 8,
        "mamba_head_dim": 32,
        "n_groups": 1,
        "chunk_size": 32,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "moe_shared_expert_intermediate_size": 128,
        "routed_scaling_factor": 1.0,
        "max_position_embeddings": 1024,
    },
    "small": {
        "pattern": "MEMEM*EMEM*E",
        "vocab_size": 4096,
        "hidden_size": 384,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 1024,
        "ssm_state_size": 64,
        "mamba_num_heads": 12,
        "mamba_head_dim": 64,
        "n_groups": 2,
        "n_routed_experts": 16,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 320,
        "moe_shared_expert_intermediate_size": 640,
        "routed_scaling_factor": 2.5,
        "max_position_embeddings": 8192,
    },
    "nano-4b": {
        **_RELEASED,
        "pattern": "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-",
        "hidden_size": 3136,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "intermediate_size": 12544,
        "mamba_num_heads": 96,
        "mamba_head_dim": 80,
        "chunk_size": 256,
    },
    "nano-30b-a3b": {
        **_RELEASED,
        "pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        "hidden_size": 2688,
        "num_key_value_heads": 2,
        "mamba_num_heads": 64,
        "n_routed_experts": 128,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1856,
        "moe_shared_expert_intermediate_size": 3712,
        "routed_scaling_factor": 2.5,
    },
    "super-120b-a12b": {
        **_RELEASED,
        "pattern": "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
        "hidden_size": 4096,
        "num_key_value_heads": 2,
        "n_routed_experts": 512,
        "num_experts_per_tok": 22,
        "moe_intermediate_size": 2688,
        "moe_shared_expert_intermediate_size": 5376,
        "moe_latent_size": 1024,
        "routed_scaling_factor": 5.0,
        "num_nextn_predict_layers": 1,
    },
}
