"""Writes the golden models: a small random model of every supported family, with expected values.

    python tools/goldens/models.py [--out src/test/resources/goldens] [name ...]

For each name: `model/` (a folder as it comes from the Hugging Face hub), `config.v4.json` and
`config.v5.json` (the same model in both dialects of config.json; `model/` holds one of them),
`vectors/` (what the plans refer to), `cases.json` (prompts, plans and greedy continuations) and
`expected.safetensors` (the tensors that the cases name). README.md beside this file says more.
Everything is checked while it is made; a check that fails ends the script.
"""

import argparse
import json
import platform
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))
from reference import (  # noqa: E402
    Plan,
    Reference,
    generation_row,
    prompt_rows,
    read_control_vectors,
    relative_difference,
)

CONTINUATION = 24
LOGITS_KEPT = 8  # of the logits that the continuation was chosen from
LENGTHS = [1, 2, 17, 64, 300]
# Greedy tokens are compared exactly: the best logit must lead by far more than rounding moves it.
GAP = 0.02
# A continuation of fewer different tokens would hardly notice a wrong one.
DISTINCT = 6
# A steered run counts only if it differs this much from the run without the plan.
MARGIN = 0.03

# Enough to see that a capture shows edited values and what follows from them.
CAPTURED_WITH_PLAN = [
    "hook_embed",
    "hook_z",
    "hook_pre_linear",
    "hook_resid_mid",
    "hook_resid_post",
]

LLAMA3_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # Small enough that of the 8 frequencies some stay, some are blended and some are scaled.
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}

# dialect: how model/config.json is written. v4 is what the hub's files of that family look like;
# `v4` and `drop` adjust that dialect to habits of the family, without changing the model.
MODELS = {
    "llama2": dict(
        config=LlamaConfig,
        dims=dict(hidden_size=32, intermediate_size=88, num_hidden_layers=2, vocab_size=97),
        heads=dict(num_attention_heads=4, num_key_value_heads=4),
        other=dict(rms_norm_eps=1e-5, max_position_embeddings=512),
        rope=dict(rope_theta=10000.0, rope_type="default"),
        dtype=torch.float16,
        dialect="v4",
        drop=["head_dim", "num_key_value_heads", "attention_bias", "mlp_bias"],
    ),
    "llama3": dict(
        config=LlamaConfig,
        dims=dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, vocab_size=128),
        heads=dict(num_attention_heads=6, num_key_value_heads=2),
        other=dict(rms_norm_eps=1e-5, max_position_embeddings=512),
        rope=dict(rope_theta=500000.0, rope_type="default"),
        dtype=torch.bfloat16,
        dialect="v4",
        drop=["head_dim"],
    ),
    "llama31": dict(
        config=LlamaConfig,
        dims=dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, vocab_size=120),
        heads=dict(num_attention_heads=4, num_key_value_heads=2),
        other=dict(rms_norm_eps=1e-5, max_position_embeddings=512, eos_token_id=[1, 2]),
        rope=dict(rope_theta=500000.0, **LLAMA3_SCALING),
        dtype=torch.bfloat16,
        dialect="v4",
        drop=["head_dim"],
        shard="60KB",
    ),
    "llama32": dict(
        config=LlamaConfig,
        dims=dict(hidden_size=48, intermediate_size=72, num_hidden_layers=2, vocab_size=112),
        heads=dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16),
        other=dict(rms_norm_eps=1e-5, max_position_embeddings=512, tie_word_embeddings=True),
        rope=dict(rope_theta=500000.0, **(LLAMA3_SCALING | {"factor": 32.0})),
        dtype=torch.bfloat16,
        dialect="v5",
    ),
    "llama-bias": dict(
        config=LlamaConfig,
        dims=dict(hidden_size=40, intermediate_size=64, num_hidden_layers=2, vocab_size=96),
        heads=dict(num_attention_heads=5, num_key_value_heads=1),
        other=dict(
            rms_norm_eps=1e-6, max_position_embeddings=512, attention_bias=True, mlp_bias=True
        ),
        rope=dict(rope_theta=10000.0, rope_type="linear", factor=2.0),
        dtype=torch.float32,
        dialect="v4",
        # The oldest spelling of a scaling.
        v4={"rope_scaling": {"type": "linear", "factor": 2.0}},
    ),
    "mistral": dict(
        config=MistralConfig,
        dims=dict(hidden_size=32, intermediate_size=80, num_hidden_layers=3, vocab_size=101),
        heads=dict(num_attention_heads=4, num_key_value_heads=2),
        other=dict(rms_norm_eps=1e-5, max_position_embeddings=512, sliding_window=16),
        rope=dict(rope_theta=10000.0, rope_type="default"),
        dtype=torch.bfloat16,
        dialect="v4",
        drop=["head_dim", "rope_scaling"],
    ),
    "qwen2": dict(
        config=Qwen2Config,
        dims=dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, vocab_size=112),
        heads=dict(num_attention_heads=6, num_key_value_heads=2),
        other=dict(rms_norm_eps=1e-6, max_position_embeddings=512, tie_word_embeddings=True),
        rope=dict(rope_theta=1000000.0, rope_type="default"),
        dtype=torch.bfloat16,
        dialect="v5",
    ),
    "qwen25": dict(
        config=Qwen2Config,
        dims=dict(hidden_size=32, intermediate_size=72, num_hidden_layers=3, vocab_size=104),
        heads=dict(num_attention_heads=4, num_key_value_heads=2),
        other=dict(rms_norm_eps=1e-6, max_position_embeddings=512),
        rope=dict(rope_theta=1000000.0, rope_type="default"),
        dtype=torch.float16,
        dialect="v4",
        # As on the hub: a window that use_sliding_window switches off; 8 would show in every case.
        v4={"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 1},
        drop=["layer_types", "rope_scaling"],
    ),
    "qwen3": dict(
        config=Qwen3Config,
        dims=dict(hidden_size=40, intermediate_size=88, num_hidden_layers=3, vocab_size=120),
        heads=dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16),
        other=dict(rms_norm_eps=1e-6, max_position_embeddings=512),
        rope=dict(rope_theta=1000000.0, rope_type="default"),
        dtype=torch.bfloat16,
        dialect="v4",
        v4={
            "rope_theta": 1000000,
            "rope_scaling": None,
            "use_sliding_window": False,
            "sliding_window": None,
            "max_window_layers": 3,
        },
        drop=["layer_types"],
    ),
}
# These two carry the whole list of plans; the others a few.
STEERED_IN_FULL = ["llama3", "qwen3"]


def check(condition, message):
    if not condition:
        raise SystemExit(f"check failed: {message}")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


# ---------------------------------------------------------------------------------------- models


def random_weights(model, seed):
    """Weights that keep the residual stream, scores and logits at order 1 to 5."""
    generator = torch.Generator().manual_seed(seed)
    tied = model.config.tie_word_embeddings
    gains = {"o_proj": 0.8, "down_proj": 0.8, "lm_head": 3.0}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("norm.weight"):
                weight.copy_((1 + 0.3 * noise).clamp(0.2, 2.0))
            elif name.endswith(".bias"):
                weight.copy_(0.5 * noise)
            elif "embed_tokens" in name:
                # A tied embedding is the LM head too, and must not make a token predict itself.
                weight.copy_(noise * (0.3 if tied else 1.0))
            else:
                gain = gains.get(name.split(".")[-2], 1.0)
                weight.copy_(noise * gain / weight.shape[1] ** 0.5)


def in_v4_dialect(config, spec, dtype):
    """config.json as transformers before 5 wrote it: RoPE settings at the top, torch_dtype."""
    config = dict(config)
    rope = config.pop("rope_parameters")
    config.pop("dtype")
    config["rope_theta"] = rope["rope_theta"]
    scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
    config["rope_scaling"] = scaling if rope["rope_type"] != "default" else None
    config["torch_dtype"] = dtype
    config["transformers_version"] = "4.43.0"
    config |= spec.get("v4", {})
    for key in spec.get("drop", []):
        config.pop(key, None)
    return dict(sorted(config.items()))


def build(name, folder, seed):
    spec = MODELS[name]
    config = spec["config"](
        **spec["dims"],
        **spec["heads"],
        **{"bos_token_id": 1, "eos_token_id": 2} | spec["other"],
        rope_parameters=spec["rope"],
    )
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    random_weights(model, seed)
    model = model.to(spec["dtype"])
    model.save_pretrained(folder / "model", max_shard_size=spec.get("shard", "1GB"))
    shards = len(list((folder / "model").glob("*.safetensors")))
    check((shards > 1) == ("shard" in spec), f"{name}: {shards} weight files")

    v5 = json.loads((folder / "model/config.json").read_text())
    dialects = {"v4": in_v4_dialect(v5, spec, v5["dtype"]), "v5": v5}
    for dialect, value in dialects.items():
        write_json(folder / f"config.{dialect}.json", value)
    expected = logits_under(dialects["v5"], folder)
    check(torch.equal(logits_under(dialects["v4"], folder), expected), "the dialects agree")
    for what, value in misread(v5):
        difference = relative_difference(logits_under(value, folder), expected)
        check(difference > 0.02, f"{name}: {what} shows only as {difference:.1e}")
    write_json(folder / "model/config.json", dialects[spec["dialect"]])


def logits_under(config, folder):
    """Logits [p, V] of the folder's weights when its config.json reads so."""
    write_json(folder / "model/config.json", config)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return model(torch.arange(3, 90).unsqueeze(0)).logits[0]


def misread(config):
    """The model as a reader would have it that gets one setting wrong; each must show."""
    rope = config["rope_parameters"]
    yield "another rope_theta", config | {
        "rope_parameters": rope | {"rope_theta": rope["rope_theta"] * 4}
    }
    if rope["rope_type"] != "default":
        plain = {"rope_theta": rope["rope_theta"], "rope_type": "default"}
        yield "no RoPE scaling", config | {"rope_parameters": plain}
    if config["model_type"] == "mistral":
        yield "no sliding window", config | {"sliding_window": None}
        yield "a window one longer", config | {"sliding_window": config["sliding_window"] + 1}
    if config["model_type"] == "qwen2":
        window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
        yield "a sliding window", {k: v for k, v in config.items() if k != "layer_types"} | window


# --------------------------------------------------------------------------------------- vectors


def write_control_vectors(path, vectors):
    """A GGUF v3 control vector file as repeng writes it: `direction.N`, F32, one axis."""

    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    def string(key, value):
        return text(key) + struct.pack("<I", 8) + text(value)

    def u32(key, value):
        return text(key) + struct.pack("<II", 4, value)

    pairs = [
        string("general.architecture", "controlvector"),
        string("controlvector.model_hint", "llama"),
        u32("controlvector.layer_count", len(vectors)),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(vectors), len(pairs)) + b"".join(pairs)
    data = b""
    for layer, vector in vectors.items():
        info = struct.pack("<IQIQ", 1, vector.numel(), 0, len(data))
        head += text(f"direction.{layer}") + info
        data += vector.numpy().astype("<f4").tobytes()
        data += bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)


def write_vectors(folder, config, seed):
    generator = torch.Generator().manual_seed(seed + 1)

    def vector():
        return torch.randn(config.hidden_size, generator=generator) * 0.5

    folder.mkdir()
    save_file({"v": vector()}, folder / "single.safetensors")
    save_file({"a": vector(), "b": vector().bfloat16()}, folder / "named.safetensors")
    directions = {layer: vector() for layer in range(1, config.num_hidden_layers)}
    write_control_vectors(folder / "control.gguf", directions)
    read = read_control_vectors(folder / "control.gguf")
    check(all(torch.equal(read[n], v) for n, v in directions.items()), "GGUF reads back")


# ----------------------------------------------------------------------------------------- plans

SINGLE, NAMED, BF16 = (
    "vectors/single.safetensors",
    "vectors/named.safetensors#a",
    "vectors/named.safetensors#b",
)
GGUF = "vectors/control.gguf"


def clamp(site, neurons, **how):
    return {"op": "neuron_clamp", "site": site, "neurons": neurons, **how}


def head_scale(site, heads, scale):
    return {"op": "head_scale", "site": site, "heads": heads, "scale": scale}


def add(site, vector, scale, **more):
    return {"op": "add", "site": site, "vector": vector, "scale": scale, **more}


def ablate(site, vector):
    return {"op": "ablate", "site": site, "vector": vector}


def project_clamp(site, vector, **bounds):
    return {"op": "project_clamp", "site": site, "vector": vector, **bounds}


def few_plans(config, prompt, continuation):
    """id -> plan. `continuation`: what the model says to the prompt without a plan."""
    last = config.num_hidden_layers - 1
    plans = {
        "clamp-up": [clamp("blocks.0.mlp.hook_pre_linear", [3, 17, 41], value=6.0)],
        "heads": [
            head_scale(f"blocks.{last}.attn.hook_z", [0, 2], 0.0),
            head_scale("blocks.0.attn.hook_z", [1], 1.7),
        ],
        "gguf-add-ablate": [
            add("blocks.1.hook_resid_post", GGUF, 2.0),
            ablate("blocks.0.hook_resid_post", SINGLE),
        ],
    }
    return {name: {"name": name, "interventions": plan} for name, plan in plans.items()}


def all_plans(config, prompt, continuation):
    last = config.num_hidden_layers - 1
    top = config.num_attention_heads - 1
    f = config.intermediate_size - 1
    site = "blocks.1.hook_resid_post"
    gate, up, post = (f"blocks.1.mlp.hook_{s}" for s in ("pre", "pre_linear", "post"))
    z = "blocks.1.attn.hook_z"
    push = [add(site, SINGLE, 1.5)]

    plans = {
        # neuron_clamp: every site, every way
        "clamp-gate-value": [clamp(gate, [0, 5, f], value=4.0)],
        "clamp-gate-bounds": [clamp(gate, list(range(0, 40)), min=-0.5, max=0.5)],
        "clamp-gate-scale": [clamp(gate, list(range(10, 40)), scale=-1.5)],
        "clamp-up-value": [clamp(up, [7], value=30.0)],
        "clamp-up-min": [clamp(up, list(range(0, f + 1, 3)), min=1.0)],
        "clamp-up-scale": [clamp(up, list(range(f + 1)), scale=0.0)],
        "clamp-post-value": [clamp(post, [2, 3], value=-5.0)],
        "clamp-post-max": [clamp(post, list(range(f + 1)), max=0.1)],
        "clamp-post-scale": [clamp(post, list(range(20, f + 1)), scale=2.5)],
        "clamp-every-site": [
            clamp(post, [1, 2], value=3.0),
            clamp(up, [2, 9], value=8.0),
            clamp(gate, [9], value=5.0),
        ],
        "clamp-in-order": [
            clamp(up, list(range(30)), scale=4.0),
            clamp(up, list(range(60)), min=-1.0, max=1.0),
            clamp(up, list(range(20)), scale=3.0),
        ],
        # head_scale
        "heads-off": [head_scale(z, [0, top], 0.0)],
        "heads-up": [head_scale(z, [1, 2], 1.7)],
        "heads-layers": [
            head_scale("blocks.0.attn.hook_z", [0, 1, top], 0.0),
            head_scale(f"blocks.{last}.attn.hook_z", [2], 1.7),
            head_scale(z, [3], -1.0),
            head_scale(z, [3, 1], 0.5),
        ],
        # add, ablate, project_clamp at every d_model site
        "add-embed": [add("hook_embed", SINGLE, 2.0)],
        "add-resid-pre": [add("blocks.1.hook_resid_pre", NAMED, 2.0)],
        "add-resid-mid": [add("blocks.1.hook_resid_mid", BF16, -2.0)],
        "add-resid-post": [add("blocks.0.hook_resid_post", SINGLE, 2.0)],
        "add-attn-out": [add("blocks.1.hook_attn_out", NAMED, 2.0)],
        "add-mlp-out": [add("blocks.1.hook_mlp_out", BF16, 2.0)],
        "add-gguf": [add(site, GGUF, 2.0), add(f"blocks.{last}.hook_resid_mid", GGUF, 1.0)],
        "add-gguf-shifted": [add("blocks.0.hook_resid_post", GGUF, 2.0, layer_shift=1)],
        "ablate-embed": [ablate("hook_embed", SINGLE)],
        "ablate-gguf": [ablate(site, GGUF), ablate("blocks.1.hook_attn_out", GGUF)],
        "ablate-everywhere": [
            ablate(f"blocks.{l}.hook_resid_{at}", NAMED)
            for l in range(last + 1)
            for at in ("pre", "mid", "post")
        ],
        "project-clamp": [project_clamp(site, SINGLE, min=-0.2, max=0.2)],
        "project-clamp-min": [project_clamp("blocks.0.hook_mlp_out", BF16, min=2.0)],
        "project-clamp-max": [project_clamp("blocks.1.hook_resid_pre", NAMED, max=-1.5)],
        # Order matters in each of these: listed otherwise, they give another result.
        "compose-site": [
            add(site, SINGLE, 3.0),
            project_clamp(site, NAMED, min=0.8, max=1.2),
            ablate(site, SINGLE),
            add(site, GGUF, 1.0),
        ],
        "compose-all": [
            add("hook_embed", BF16, 0.7),
            head_scale(z, [0], 0.0),
            clamp(up, [4, 12], value=9.0),
            project_clamp("blocks.1.hook_resid_mid", NAMED, min=0.5),
            ablate(f"blocks.{last}.hook_resid_post", SINGLE),
            add(f"blocks.{last}.hook_mlp_out", GGUF, 1.3),
        ],
    }
    plans = {name: {"interventions": plan} for name, plan in plans.items()}

    # Triggers, in the plan and on single interventions
    two, tail = [prompt[2], prompt[5]], continuation[1]
    triggers = {
        "when-prompt": {"prompt": "all"},
        "when-prompt-not-generation": {"prompt": "all", "generation": "none"},
        "when-generation": {"generation": "all"},
        "when-last-prompt-token": {"prompt_positions": [-1]},
        "when-prompt-positions": {"prompt_positions": [0, 2]},
        "when-beyond-the-prompt": {"prompt_positions": [99]},
        "when-prompt-window": {"prompt_window": [3, 6]},
        "when-prompt-window-open": {"prompt_window": [-4, None]},
        "when-prompt-tokens": {"prompt_tokens": two},
        "when-generation-positions": {"generation_positions": [0, 3]},
        "when-generation-window": {"generation_window": [2, 5]},
        "when-generation-tokens": {"generation_tokens": [tail]},
        "when-union": {
            "prompt_positions": [1],
            "prompt_tokens": two,
            "generation_window": [0, 2],
            "generation_positions": [4],
        },
        "when-exclude-positions": {
            "prompt": "all",
            "exclude_prompt_positions": [0, -1],
            "generation": "all",
            "exclude_generation_positions": [0, 1],
        },
        "when-exclude-window": {
            "prompt": "all",
            "exclude_prompt_window": [0, 4],
            "generation_window": [0, 12],
            "exclude_generation_window": [3, 6],
        },
        "when-exclude-tokens": {
            "prompt_window": [1, 8],
            "exclude_prompt_tokens": two,
            "generation": "all",
            "exclude_generation_tokens": [tail],
        },
    }
    for name, when in triggers.items():
        plans[name] = {"interventions": push, "when": when}
    plans["when-neurons-last"] = {
        "interventions": [clamp(up, [7], value=30.0)],
        "when": {"prompt_positions": [-1]},
    }
    plans["when-heads-generation"] = {
        "interventions": [head_scale(z, [0, 1, top], 0.0)],
        "when": {"generation": "all"},
    }
    plans["when-own"] = {
        "interventions": [
            add(site, SINGLE, 1.5) | {"when": {"prompt_positions": [0, 1]}},
            head_scale(z, [0, 2], 0.0) | {"when": {"generation": "all"}},
            clamp(up, [7], value=30.0),
        ],
        "when": {"prompt_positions": [-1]},
    }
    return {name: {"name": name} | plan for name, plan in plans.items()}


# ----------------------------------------------------------------------------------------- cases


class Cases:
    """Runs one model and collects its cases and their expected tensors."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.reference = Reference(folder / "model")
        self.config = self.reference.config
        self.generator = torch.Generator().manual_seed(seed + 2)
        self.tensors, self.pool = {}, []
        self.smallest_gap, self.smallest_margin = 1e9, 1e9

    def prompt(self, length):
        ids = torch.randint(3, self.config.vocab_size, (length,), generator=self.generator)
        return ids.tolist()

    def keep(self, name, tensor):
        self.tensors[name] = tensor.contiguous()

    def forward(self):
        """Logits at every length, and all sites at one of them."""
        in_bf16 = Reference(self.folder / "model", torch.bfloat16)
        cases, worst = [], 0.0
        for length in LENGTHS:
            name = f"length-{length}"
            tokens = self.prompt(length)
            logits, sites = self.reference.forward(prompt_rows(tokens))
            coarse, _ = in_bf16.forward(prompt_rows(tokens))
            worst = max(worst, relative_difference(coarse, logits))
            check(0.5 < logits.std() < 6, f"logits of spread {logits.std():.2f}")
            rows = "all" if length <= 64 else "last"
            self.keep(f"{name}/logits", logits if rows == "all" else logits[-1:])
            self.keep(f"{name}/bf16/logits", coarse if rows == "all" else coarse[-1:])
            case = {"id": name, "tokens": tokens, "rows": rows, "sites": []}
            if length == 17:
                self.equals_transformers(tokens, sites)
                case["sites"] = sorted(
                    site for site in sites if site != "logits" and not site.endswith("_raw")
                )
                for site in case["sites"]:
                    self.keep(f"{name}/{site}", sites[site])
            cases.append(case)
        print(f"  bf16 against f32: {worst:.1e}")
        return cases

    def equals_transformers(self, tokens, sites):
        """Sites against what a model without our hooks says of itself."""
        plain = transformers.AutoModelForCausalLM.from_pretrained(
            self.folder / "model", dtype=torch.float32, attn_implementation="eager"
        )
        with torch.no_grad():
            out = plain(
                torch.tensor([tokens]), output_hidden_states=True, output_attentions=True
            )
        check(torch.equal(out.logits[0], sites["logits"]), "logits as without hooks")
        for l, weights in enumerate(out.attentions):
            check(torch.equal(weights[0], sites[f"blocks.{l}.attn.hook_pattern"]), "pattern")
            states = out.hidden_states[l][0]
            check(torch.equal(states, sites[f"blocks.{l}.hook_resid_pre"]), "resid_pre")
            q, k, z = (sites[f"blocks.{l}.attn.hook_{s}"] for s in ("rot_q", "rot_k", "z"))
            group = q.shape[1] // k.shape[1]
            scores = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(group, 1))
            scores = scores / q.shape[-1] ** 0.5
            shut = weights[0] == 0
            again = scores.masked_fill(shut, float("-inf")).softmax(-1)
            check(relative_difference(again, weights[0]) < 1e-5, "rot_q and rot_k give the pattern")
            v = sites[f"blocks.{l}.attn.hook_v"].repeat_interleave(group, 1)
            mixed = torch.einsum("hqk,khd->qhd", weights[0], v)
            check(relative_difference(mixed, z) < 1e-5, "pattern and v give z")

    def greedy(self):
        cases = []
        while len(cases) < 2:
            tokens = self.prompt([17, 3][len(cases)])
            run = self.generate(tokens)
            if run is None or len(set(run[0])) < DISTINCT:
                continue
            name = f"greedy-{len(cases)}"
            self.keep(f"{name}/generation_logits", run[1][:LOGITS_KEPT])
            cases.append({"id": name, "tokens": tokens, "continuation": run[0]})
            by_transformers = self.reference.model.generate(
                torch.tensor([tokens]), max_new_tokens=CONTINUATION, do_sample=False
            )
            check(by_transformers[0, len(tokens) :].tolist() == run[0], "equals generate()")
        return cases

    def generate(self, tokens, spec=None):
        """Continuation and logits under the plan; None where rounding could change a token."""
        plan = Plan(spec or {"interventions": []}, self.folder)
        chosen, logits = self.reference.generate(tokens, CONTINUATION, plan)
        best = logits.topk(2).values
        gap = (best[:, 0] - best[:, 1]).min().item()
        eos = self.config.eos_token_id
        if gap < GAP or set(chosen) & set(eos if isinstance(eos, list) else [eos]):
            return None
        # The same without a cache: all rows at once, each edited by its phase and position.
        rows = prompt_rows(tokens) + [
            generation_row(i, token, len(tokens)) for i, token in enumerate(chosen[:-1])
        ]
        again, _ = self.reference.forward(rows, Plan(spec or {"interventions": []}, self.folder))
        check(
            relative_difference(again[len(tokens) - 1 :], logits) < 2e-5,
            "the cache does not change the logits",
        )
        self.smallest_gap = min(self.smallest_gap, gap)
        return chosen, logits, plan.report()

    def pooled(self, k):
        """The k-th prompt that steered cases share, with its run without a plan."""
        while len(self.pool) <= k:
            tokens = self.prompt([17, 9, 23, 12][len(self.pool) % 4])
            run = self.generate(tokens)
            if run is None or len(set(run[0])) < DISTINCT or len(set(tokens)) < len(tokens) - 3:
                continue
            name = f"unsteered-{len(self.pool)}"
            self.pool.append(
                {"id": name, "tokens": tokens, "continuation": run[0], "generation_logits": run[1]}
            )
        return self.pool[k]

    def steered(self, plans):
        """plans(config, prompt, continuation): id -> plan."""
        cases, used = [], {}
        for at, name in enumerate(plans(self.config, *[list(range(3, 20))] * 2)):
            # The first prompts of the pool, in turn, on which every greedy token is clear.
            for k in range(at % 4, at % 4 + 60):
                base = self.pooled(k)
                spec = plans(self.config, base["tokens"], base["continuation"])[name]
                run = self.generate(base["tokens"], spec)
                if run and self.counts(spec, base, run):
                    break
            else:
                raise SystemExit(f"check failed: no clear prompt for {name}")
            used[base["id"]] = base
            continuation, logits, report = run
            prompt_logits, sites = self.reference.forward(
                prompt_rows(base["tokens"]), Plan(spec, self.folder)
            )
            check(all(entry["tokens"] for entry in report), f"{name}: every part selects a token")
            self.keep(f"{name}/logits", prompt_logits)
            self.keep(f"{name}/generation_logits", logits[:LOGITS_KEPT])
            case = {
                "id": name,
                "tokens": base["tokens"],
                "plan": spec,
                "continuation": continuation,
                "unsteered": base["id"],
                "report": report,
                "sites": [],
            }
            if name == "compose-all":
                case["sites"] = sorted(s for s in sites if s.split(".")[-1] in CAPTURED_WITH_PLAN)
                for site in case["sites"]:
                    self.keep(f"{name}/{site}", sites[site])
            cases.append(case)
        unsteered = []
        for base in sorted(used.values(), key=lambda base: base["id"]):
            logits, _ = self.reference.forward(prompt_rows(base["tokens"]))
            self.keep(f"{base['id']}/logits", logits)
            self.keep(
                f"{base['id']}/generation_logits", base["generation_logits"][:LOGITS_KEPT]
            )
            unsteered.append({k: base[k] for k in ("id", "tokens", "continuation")})
        return unsteered, cases

    def counts(self, spec, base, run):
        """Whether the plan clearly changes the logits where it should, and only there."""
        _, logits, _ = run
        tokens = base["tokens"]
        without, _ = self.reference.forward(prompt_rows(tokens))
        with_plan, _ = self.reference.forward(prompt_rows(tokens), Plan(spec, self.folder))
        in_prompt = relative_difference(with_plan, without)
        if all(k.startswith("generation") for k in spec.get("when", ["prompt"])):
            check(in_prompt == 0.0, "a plan for generation leaves the prompt alone")
        # Later logits answer to other tokens and would differ anyway.
        pairs = zip(run[0], base["continuation"])
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        if same is None:
            return False
        alike = slice(0, same + 1)
        generated = relative_difference(logits[alike], base["generation_logits"][alike])
        margin = max(in_prompt, generated)
        if margin < MARGIN:
            return False
        self.smallest_margin = min(self.smallest_margin, margin)
        return True


def make(name, out):
    print(name)
    seed = 1000 + list(MODELS).index(name) * 10
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build(name, folder, seed)
    cases = Cases(folder, seed)
    write_vectors(folder / "vectors", cases.config, seed)
    forward, greedy = cases.forward(), cases.greedy()
    plans = all_plans if name in STEERED_IN_FULL else few_plans
    unsteered, steered = cases.steered(plans)
    save_file(cases.tensors, folder / "expected.safetensors")
    versions = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    document = {
        "versions": versions,
        "forward": forward,
        "greedy": greedy,
        "unsteered": unsteered,
        "steered": steered,
    }
    # One case a line: short enough to read, and a change shows as the case that changed.
    lines = [f'"versions": {json.dumps(versions)}']
    for key in list(document)[1:]:
        entries = ",\n  ".join(json.dumps(case) for case in document[key])
        lines.append(f'"{key}": [\n  {entries}\n]')
    (folder / "cases.json").write_text("{" + ",\n".join(lines) + "}\n")
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(
        f"  {len(steered)} plans, smallest lead of a greedy token {cases.smallest_gap:.3f}, "
        f"smallest effect of a plan {cases.smallest_margin:.2f}, {size / 1e3:.0f} kB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/test/resources/goldens"))
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MODELS))
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MODELS)
    if unknown:
        parser.error(f"unknown model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in arguments.names or MODELS:
        make(name, arguments.out)


if __name__ == "__main__":
    main()
