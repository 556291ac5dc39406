"""Decode as plain torch makes it fastest, a stronger baseline than transformers: a cache of fixed size, and
one whole step as one CUDA graph, from the embedding of the last token to the choice of the next. The weights
are the very ones of the transformers model; products that share their input are made as one. Elementwise
operations are torch's own, nothing is compiled. On the CPU the same step runs without a graph."""

from typing import NamedTuple

import torch
from torch.nn import functional as F
from transformers import DynamicCache

SETTINGS = {"engine": "torch, static cache, CUDA graph", "attention": "sdpa", "cache": "static"}


class Block(NamedTuple):
    attention_norm: torch.Tensor
    qkv: torch.Tensor
    o: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


def blocks(model):
    """A Llama's blocks, once for each model."""
    c = model.config
    if c.model_type != "llama" or c.attention_bias or c.mlp_bias:
        raise ValueError("static decode is for Llamas without biases")
    return [
        Block(layer.input_layernorm.weight,
              joined(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
              layer.self_attn.o_proj.weight, layer.post_attention_layernorm.weight,
              joined(layer.mlp.gate_proj, layer.mlp.up_proj), layer.mlp.down_proj.weight)
        for layer in model.model.layers]


def joined(*linears):
    """One matrix of several. They become views of it: no weight is there twice."""
    whole = torch.cat([linear.weight for linear in linears])
    for linear, part in zip(linears, whole.split([linear.out_features for linear in linears])):
        linear.weight = torch.nn.Parameter(part, requires_grad=False)
    return whole


class StaticDecode:
    """Steps of one batch after its prompt. `pick` makes ids of logits. `difference` is that of the first
    step's logits from transformers', as a share of their norm: that the step is the model's."""

    def __init__(self, model, blocks, prompt, tokens, pick):
        self.model, self.blocks, self.pick, self.config = model, blocks, pick, model.config
        self.batch, self.begin = prompt.shape
        length = -(-(self.begin + tokens) // 16) * 16  # rows of masks have to be aligned
        device, dtype = prompt.device, model.dtype
        cache = DynamicCache(config=self.config)
        self.first = pick(model(prompt, past_key_values=cache, logits_to_keep=1).logits[:, -1])
        self.caches = [(grown(layer.keys, length), grown(layer.values, length)) for layer in cache.layers]
        self.slots = torch.arange(length, device=device)
        self.visible = torch.zeros(length, dtype=dtype, device=device)
        cos, sin = model.model.rotary_emb(self.visible, self.slots[None])
        self.cos = cos[0]
        self.sin = torch.cat([half * sign for half, sign in zip(sin[0].chunk(2, -1), (-1, 1))], -1)
        self.ids, self.position = self.first.clone(), self.slots[:1].clone()
        theirs = model(self.first[:, None], past_key_values=cache, logits_to_keep=1).logits[:, -1].float()
        self.graph = self.recorded() if device.type == "cuda" else None
        self.reset()
        self.run(1)
        self.difference = ((self.logits - theirs).norm() / theirs.norm()).item()

    def reset(self):
        """Back to the prompt's end; what later steps wrote is hidden until it is written again."""
        self.ids.copy_(self.first)
        self.position.fill_(self.begin)

    def run(self, tokens):
        advance = self.graph.replay if self.graph else self.step
        for _ in range(tokens):
            advance()

    def recorded(self):
        """The step as a graph, after some on a side stream in which libraries make what they keep."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.reset()
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph

    def step(self):
        """Reads ids and position, writes the next ones and logits."""
        c, eps = self.config, self.config.rms_norm_eps
        width, kv, turned = c.hidden_size, c.num_key_value_heads, c.num_attention_heads + c.num_key_value_heads
        cos, sin = self.cos.index_select(0, self.position), self.sin.index_select(0, self.position)
        bias = self.visible.masked_fill(self.slots > self.position, float("-inf"))
        x = F.embedding(self.ids, self.model.model.embed_tokens.weight)
        for block, (keys, values) in zip(self.blocks, self.caches):
            heads = F.linear(F.rms_norm(x, (width,), block.attention_norm, eps), block.qkv)
            heads = heads.view(self.batch, turned + kv, -1)
            qk = heads[:, :turned]
            qk = torch.addcmul(qk * cos, qk.roll(qk.shape[-1] // 2, -1), sin)
            keys.index_copy_(2, self.position, qk[:, -kv:, None])
            values.index_copy_(2, self.position, heads[:, turned:, None])
            z = attended(qk[:, :-kv].unflatten(1, (kv, -1)), keys, values, bias)
            x = x + F.linear(z.reshape(self.batch, -1), block.o)
            gate, up = F.linear(F.rms_norm(x, (width,), block.mlp_norm, eps), block.gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, block.down)
        x = F.rms_norm(x, (width,), self.model.model.norm.weight, eps)
        self.logits = F.linear(x, self.model.lm_head.weight)
        self.ids.copy_(self.pick(self.logits))
        self.position += 1


def grown(part, length):
    """Keys or values [B, heads, T, d] of a prompt in a cache of this length."""
    whole = part.new_zeros(*part.shape[:2], length, part.shape[3])
    whole[:, :, :part.shape[2]] = part
    return whole


def attended(q, keys, values, bias):
    """Attention of queries [B, key heads, queries of each, d]: those of a key head are rows of one product,
    so that its keys are read once. (With enable_gqa torch has no fast kernel that takes a mask.) Torch's
    kernel gives a key head to one block of the GPU; two plain products use it better where these are few
    and the cache is long."""
    if keys.shape[0] * keys.shape[1] >= 128 or keys.shape[2] <= 512:
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias.expand(*q.shape[:3], -1))
    return torch.softmax((q * q.shape[-1] ** -0.5) @ keys.mT + bias, -1) @ values
