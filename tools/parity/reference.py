"""Transformers as the reference that Halter is held against.

`Reference` runs a Llama-family model of transformers on the CPU (eager attention) with every site
readable and editable under its TransformerLens name, and edits it as a steering plan says. It works
row by row and in plain torch, so that it stays easy to check by eye; speed does not matter here.

Sites (p tokens, H query heads, KV key-value heads, dh = d_head, F = d_mlp):

    hook_embed                                            [p, d_model]
    blocks.l.hook_resid_pre | hook_resid_mid | hook_resid_post | hook_attn_out | hook_mlp_out
                                                          [p, d_model]
    blocks.l.ln1|ln2.hook_scale, ln_final.hook_scale      [p, 1]  sqrt(mean(x^2) + eps)
    blocks.l.ln1|ln2.hook_normalized, ln_final.…          [p, d_model]  before the gain
    blocks.l.attn.hook_q                                  [p, H, dh]  before the rotation
    blocks.l.attn.hook_k | hook_v                         [p, KV, dh]
    blocks.l.attn.hook_rot_q | hook_rot_k                 after the rotation
    blocks.l.attn.hook_pattern                            [H, p, p]
    blocks.l.attn.hook_z                                  [p, H, dh]
    blocks.l.mlp.hook_pre | hook_pre_linear | hook_post   [p, F]
    logits                                                [p, V]

With QK norm (Qwen3), hook_q and hook_k hold the value after the norm; what q_proj and k_proj gave,
which is what TransformerLens calls hook_q and hook_k in such a model, is hook_q_raw and hook_k_raw.
A site that a plan edits is captured after the edit: the value that the rest of the model sees.
"""

import json
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, DynamicCache


@dataclass(frozen=True)
class Row:
    """One token on its way through the model; `position` counts from 0 within its phase."""

    phase: str  # "prompt" or "generation": generated tokens that are fed back
    position: int
    token: int
    prompt_length: int


def prompt_rows(tokens):
    return [Row("prompt", i, t, len(tokens)) for i, t in enumerate(tokens)]


def generation_row(position, token, prompt_length):
    return Row("generation", position, token, prompt_length)


SELECTORS = ("positions", "window", "tokens")
TRIGGER_KEYS = {"prompt", "generation"} | {
    f"{prefix}{phase}_{selector}"
    for prefix in ("", "exclude_")
    for phase in ("prompt", "generation")
    for selector in SELECTORS
}


class Trigger:
    """The rows that a `when` selects: includes add up, excludes always take away."""

    def __init__(self, when):
        unknown = set(when or {}) - TRIGGER_KEYS
        if unknown:
            raise ValueError(f"unknown keys in when: {sorted(unknown)}")
        self.when = when

    def selects(self, row):
        if self.when is None:
            return True
        included = self.when.get(row.phase) == "all" or self._matches(row, "")
        return included and not self._matches(row, "exclude_")

    def _matches(self, row, prefix):
        def selector(name):
            return self.when.get(f"{prefix}{row.phase}_{name}")

        positions, window, tokens = map(selector, SELECTORS)
        # Only the prompt has an end that negative positions could count from.
        n = row.prompt_length if row.phase == "prompt" else sys.maxsize
        if positions is not None:
            counted = [p + n if p < 0 else p for p in positions]
            if not prefix:
                # As in EasySteer: a position past the prompt's end means its last token.
                counted = [min(p, n - 1) for p in counted]
            if row.position in counted:
                return True
        if window is not None and row.position in range(*slice(*window).indices(n)):
            return True
        return tokens is not None and row.token in tokens


def read_control_vectors(path):
    """The `direction.N` tensors of a GGUF control vector file, by N."""
    data = Path(path).read_bytes()
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def text():
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length : at].decode()

    if take("4s") != b"GGUF" or take("I") != 3:
        raise ValueError(f"{path}: not a GGUF file of version 3")
    tensors, pairs = take("QQ")
    scalars = {4: "I", 5: "i", 6: "f", 10: "Q"}
    meta = {}
    for _ in range(pairs):
        key = text()
        kind = take("I")
        meta[key] = text() if kind == 8 else take(scalars[kind])
    infos = []
    for _ in range(tensors):
        name = text()
        dims = [take("Q") for _ in range(take("I"))]
        infos.append((name, dims, *take("IQ")))
    alignment = meta.get("general.alignment", 32)
    start = -(-at // alignment) * alignment
    vectors = {}
    for name, (size,), kind, offset in infos:
        if kind != 0:
            raise ValueError(f"{path}: {name} is not F32")
        values = np.frombuffer(data, "<f4", size, start + offset)
        vectors[int(name.removeprefix("direction."))] = torch.from_numpy(values.copy())
    return vectors


def read_vector(name, folder, layer, layer_shift):
    """`file.safetensors`, `file.safetensors#tensor`, or the direction of `layer` of a GGUF file."""
    file, _, tensor = name.partition("#")
    path = Path(folder) / file
    if file.endswith(".gguf"):
        return read_control_vectors(path)[layer + layer_shift]
    with safe_open(path, "pt") as tensors:
        (only,) = [tensor] if tensor else tensors.keys()
        return tensors.get_tensor(only).float()


class Intervention:
    """One entry of a plan: which rows of which site it changes, and how."""

    def __init__(self, spec, when, folder):
        self.spec = spec
        self.site = spec["site"]
        # A `when` of its own replaces the plan's.
        self.trigger = Trigger(spec.get("when", when))
        self.edited, self.change = 0, 0.0
        if "vector" in spec:
            parts = self.site.split(".")
            layer = int(parts[1]) if parts[0] == "blocks" else 0
            self.v = read_vector(spec["vector"], folder, layer, spec.get("layer_shift", 0))
        self.edit = getattr(self, spec["op"])

    def apply(self, x, rows):
        chosen = torch.tensor([self.trigger.selects(row) for row in rows])
        if not chosen.any():
            return x
        before = x[chosen]
        after = self.edit(before.float().clone()).to(x.dtype)
        x = x.clone()
        x[chosen] = after
        self.edited += len(before)
        self.change += (after - before).float().flatten(1).norm(dim=1).sum().item()
        return x

    def report(self):
        mean = self.change / self.edited if self.edited else 0.0
        return {"site": self.site, "tokens": self.edited, "mean_norm": mean}

    def neuron_clamp(self, x):
        neurons = x[:, self.spec["neurons"]]
        if "value" in self.spec:
            neurons = torch.full_like(neurons, self.spec["value"])
        elif "scale" in self.spec:
            neurons = neurons * self.spec["scale"]
        else:
            neurons = neurons.clamp(self.spec.get("min"), self.spec.get("max"))
        x[:, self.spec["neurons"]] = neurons
        return x

    def head_scale(self, z):
        z[:, self.spec["heads"]] *= self.spec["scale"]
        return z

    def add(self, h):
        return h + self.spec.get("scale", 1.0) * self.v

    def ablate(self, h):
        unit = self.v / self.v.norm()
        return h - (h @ unit)[:, None] * unit

    def project_clamp(self, h):
        unit = self.v / self.v.norm()
        along = h @ unit
        inside = along.clamp(self.spec.get("min"), self.spec.get("max"))
        return h + (inside - along)[:, None] * unit


class Plan:
    """A steering plan; interventions at one site act in the order in which they are listed."""

    def __init__(self, spec, folder="."):
        unknown = set(spec) - {"name", "interventions", "when"}
        if unknown:
            raise ValueError(f"unknown keys in the plan: {sorted(unknown)}")
        self.interventions = [
            Intervention(entry, spec.get("when"), folder) for entry in spec["interventions"]
        ]

    def apply(self, site, x, rows):
        for intervention in self.interventions:
            if intervention.site == site:
                x = intervention.apply(x, rows)
        return x

    def report(self):
        return [intervention.report() for intervention in self.interventions]


NO_PLAN = Plan({"interventions": []})


def _observed(eager):
    """Eager attention that shows what it multiplies to the module's observer."""

    def attention(module, query, key, value, mask, **options):
        out, weights = eager(module, query, key, value, mask, **options)
        if hasattr(module, "observe"):
            module.observe(query, key, weights)
        return out, weights

    attention.observed = True
    return attention


class Reference:
    def __init__(self, folder, dtype=torch.float32):
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager"
        ).eval()
        self.config = self.model.config
        self.plan, self.rows, self.captured = NO_PLAN, [], {}
        self._hook()

    @torch.no_grad()
    def forward(self, rows, plan=NO_PLAN, cache=None):
        """Runs the rows of one sequence; the logits [p, V] in float32, and every site."""
        self.plan, self.rows, self.captured = plan, rows, {}
        out = self.model(
            torch.tensor([[row.token for row in rows]]),
            past_key_values=cache,
            use_cache=cache is not None,
        )
        self.captured["logits"] = out.logits[0].float()
        return self.captured["logits"], self.captured

    def generate(self, tokens, count, plan=NO_PLAN):
        """Greedy tokens, and the logits [count, V] that each was chosen from."""
        cache = DynamicCache(config=self.config)
        logits, _ = self.forward(prompt_rows(tokens), plan, cache)
        chosen, chosen_from = [], []
        while True:
            chosen_from.append(logits[-1])
            chosen.append(int(logits[-1].argmax()))
            if len(chosen) == count:
                return chosen, torch.stack(chosen_from)
            row = generation_row(len(chosen) - 1, chosen[-1], len(tokens))
            logits, _ = self.forward([row], plan, cache)

    def _at(self, site, x):
        """x: [p, …] as it passes `site`; what goes on from there."""
        x = self.plan.apply(site, x, self.rows)
        self.captured[site] = x.detach().float().clone()
        return x

    def _hook(self):
        model = self.model.model
        heads = self.config.num_attention_heads

        def on_output(module, site, split=None):
            """split: the number of heads that the last axis is divided into."""

            def hook(_, args, output):
                first = output[0] if isinstance(output, tuple) else output
                x = first[0].unflatten(-1, (split, -1)) if split else first[0]
                x = self._at(site, x).reshape(first.shape)
                return (x, *output[1:]) if isinstance(output, tuple) else x

            module.register_forward_hook(hook)

        def on_input(module, site, split=None):
            def hook(_, args):
                x = args[0][0].unflatten(-1, (split, -1)) if split else args[0][0]
                return (self._at(site, x).reshape(args[0].shape), *args[1:])

            module.register_forward_pre_hook(hook)

        def on_norm(module, site, stream=None):
            def hook(_, args):
                if stream:
                    # In place: the layer keeps this very tensor for its residual connection.
                    args[0][0].copy_(self._at(stream, args[0][0]))
                x = args[0][0].float()
                scale = (x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon).sqrt()
                self.captured[f"{site}.hook_scale"] = scale
                self.captured[f"{site}.hook_normalized"] = x / scale

            module.register_forward_pre_hook(hook)

        on_output(model.embed_tokens, "hook_embed")
        on_norm(model.norm, "ln_final")
        for l, layer in enumerate(model.layers):
            block, attn, mlp = f"blocks.{l}", layer.self_attn, layer.mlp
            on_input(layer, f"{block}.hook_resid_pre")
            on_norm(layer.input_layernorm, f"{block}.ln1")
            if hasattr(attn, "q_norm"):
                on_output(attn.q_proj, f"{block}.attn.hook_q_raw", heads)
                on_output(attn.k_proj, f"{block}.attn.hook_k_raw", self.config.num_key_value_heads)
                on_output(attn.q_norm, f"{block}.attn.hook_q")
                on_output(attn.k_norm, f"{block}.attn.hook_k")
            else:
                on_output(attn.q_proj, f"{block}.attn.hook_q", heads)
                on_output(attn.k_proj, f"{block}.attn.hook_k", self.config.num_key_value_heads)
            on_output(attn.v_proj, f"{block}.attn.hook_v", self.config.num_key_value_heads)
            attn.observe = self._attention_observer(f"{block}.attn")
            on_input(attn.o_proj, f"{block}.attn.hook_z", heads)
            on_output(attn, f"{block}.hook_attn_out")
            on_norm(layer.post_attention_layernorm, f"{block}.ln2", f"{block}.hook_resid_mid")
            on_output(mlp.gate_proj, f"{block}.mlp.hook_pre")
            on_output(mlp.up_proj, f"{block}.mlp.hook_pre_linear")
            on_input(mlp.down_proj, f"{block}.mlp.hook_post")
            on_output(mlp, f"{block}.hook_mlp_out")
            on_output(layer, f"{block}.hook_resid_post")
        code = sys.modules[type(model.layers[0].self_attn).__module__]
        if not hasattr(code.eager_attention_forward, "observed"):
            code.eager_attention_forward = _observed(code.eager_attention_forward)

    def _attention_observer(self, site):
        def observe(query, key, weights):
            p = len(self.rows)
            self.captured[f"{site}.hook_rot_q"] = query[0].transpose(0, 1).float().clone()
            self.captured[f"{site}.hook_rot_k"] = key[0, :, -p:].transpose(0, 1).float().clone()
            self.captured[f"{site}.hook_pattern"] = weights[0].float().clone()

        return observe


def relative_difference(actual, expected):
    """The largest absolute difference over the largest absolute expected value of the tensor."""
    if actual.shape != expected.shape:
        raise ValueError(f"shape {list(actual.shape)}, expected {list(expected.shape)}")
    if not torch.isfinite(actual).all():
        return float("inf")
    largest = expected.abs().max().item()
    return (actual - expected).abs().max().item() / max(largest, 1e-30)


def read_json_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
