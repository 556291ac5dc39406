#!/usr/bin/env python3
"""What transformers makes of config.json files in the dialects found on the hub.

For each config it writes the sizes, the RoPE frequencies, the sliding window of every layer, and
the names and shapes of the tensors that the model has. ModelConfigTest holds Halter to them.

    python tools/goldens/configs.py src/test/resources/dev/halter/weights/configs.json
"""
import json
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 160,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def llama(**more):
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SIZES, **more}


def mistral(**more):
    return {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        **SIZES,
        "num_key_value_heads": 2,
        **more,
    }


def qwen2(**more):
    return {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        **SIZES,
        "num_key_value_heads": 2,
        **more,
    }


def qwen3(**more):
    return {**qwen2(), "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], **more}


CASES = {
    "llama 2": llama(pretraining_tp=1, torch_dtype="float16", bos_token_id=1, eos_token_id=2),
    "llama without token ids": llama(),
    "llama 3": llama(num_key_value_heads=2, rope_theta=500000.0, eos_token_id=[128001, 128009]),
    "llama 3.1": llama(
        num_key_value_heads=2,
        head_dim=128,
        rope_theta=500000.0,
        rope_scaling={**LLAMA3, "rope_type": "llama3"},
        max_position_embeddings=131072,
    ),
    "llama 3.2 in the dialect of transformers 5": llama(
        num_key_value_heads=2,
        head_dim=64,
        tie_word_embeddings=True,
        rope_parameters={**LLAMA3, "factor": 32.0, "rope_theta": 500000.0, "rope_type": "llama3"},
        dtype="bfloat16",
    ),
    "llama3 scaling whose original length is the config's": llama(
        original_max_position_embeddings=4096,
        rope_scaling={**LLAMA3, "rope_type": "llama3"},
        head_dim=64,
    ),
    "linear scaling with the old key": llama(rope_scaling={"type": "linear", "factor": 2.5}),
    "linear scaling in the dialect of transformers 5": llama(
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    ),
    "theta of rope_parameters wins": llama(
        rope_theta=77.0, rope_parameters={"rope_type": "default", "rope_theta": 1000.0}
    ),
    "rope_scaling null": llama(rope_theta=1000000, rope_scaling=None),
    "all biases": llama(attention_bias=True, mlp_bias=True, num_key_value_heads=1),
    "mistral 0.1": mistral(sliding_window=8),
    "mistral with the default window": mistral(),
    "mistral 0.3": mistral(sliding_window=None, rope_theta=1000000.0, head_dim=32),
    "qwen2": qwen2(use_sliding_window=False, sliding_window=8, max_window_layers=1),
    "qwen2 that slides from layer 1": qwen2(
        use_sliding_window=True, sliding_window=8, max_window_layers=1
    ),
    "qwen2 with layer types": qwen2(
        use_sliding_window=True,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "qwen2 of transformers 5": qwen2(
        use_sliding_window=False,
        sliding_window=None,
        layer_types=["full_attention"] * 3,
        tie_word_embeddings=True,
        eos_token_id=151645,
        bos_token_id=None,
    ),
    "qwen3": qwen3(head_dim=32, rope_theta=1000000),
    "qwen3 with the default head": qwen3(),
    "qwen3 with biases": qwen3(attention_bias=True, head_dim=16),
}


def windows(config):
    window = getattr(config, "sliding_window", None)
    if config.model_type == "llama":
        return [0] * config.num_hidden_layers
    if config.model_type == "mistral":
        return [window or 0] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else 0 for kind in config.layer_types]


def main():
    cases = []
    for name, raw in CASES.items():
        config = AutoConfig.for_model(**json.loads(json.dumps(raw)))
        model = AutoModelForCausalLM.from_config(config)
        tied = config.tie_word_embeddings
        eos = config.eos_token_id
        cases.append(
            {
                "name": name,
                "config": raw,
                "kv_heads": config.num_key_value_heads,
                "head": model.model.layers[0].self_attn.head_dim,
                "windows": windows(config),
                "bos": -1 if config.bos_token_id is None else config.bos_token_id,
                "eos": [] if eos is None else eos if isinstance(eos, list) else [eos],
                "frequencies": model.model.rotary_emb.inv_freq.double().tolist(),
                "tensors": {
                    key: list(value.shape)
                    for key, value in model.state_dict().items()
                    if not (tied and key == "lm_head.weight")
                },
            }
        )
    document = {
        "made_by": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "cases": cases,
    }
    with open(sys.argv[1], "w") as out:
        json.dump(document, out, separators=(",", ":"))
        out.write("\n")


main()
