"""Writes a Llama-shaped model folder of random weights, to measure speed with.

    python random_model.py DIR [--dtype f32|bf16] [--layers 12] [--d-model 768] [--heads 12] …

The weights mean nothing, but their scale is that of a trained model, so activations stay finite in
bf16 and greedy tokens vary. There is no tokenizer: benchmarks feed token ids.
"""

import argparse
from pathlib import Path

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def write(folder, dtype, shape, seed, device):
    torch.manual_seed(seed)
    torch.set_default_dtype(dtype)  # a large model is never there in f32
    config = LlamaConfig(
        **shape,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 500000.0, "rope_type": "default"},
    )
    with torch.no_grad(), torch.device(device):
        model = LlamaForCausalLM(config)
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.fill_(1.0)
            elif "embed_tokens" in name:
                weight.normal_()
            else:
                weight.normal_(0.0, weight.shape[1] ** -0.5)
    model.save_pretrained(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--d-model", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--kv-heads", type=int, help="as many as heads if not given")
    parser.add_argument("--d-mlp", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="where the numbers are drawn")
    a = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    shape = {
        "num_hidden_layers": a.layers,
        "hidden_size": a.d_model,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads or a.heads,
        "intermediate_size": a.d_mlp,
        "vocab_size": a.vocab,
    }
    write(a.folder, DTYPES[a.dtype], shape, a.seed, a.device)


if __name__ == "__main__":
    main()
