"""Writes a Llama-shaped model folder of random weights, to measure speed with.

    python random_model.py DIR [--dtype f32|bf16] [--layers 12] [--d-model 768] [--heads 12] …
    python random_model.py DIR --config-only …      # in no time: who opens it makes the weights itself

The weights mean nothing, but their scale is that of a trained model, so activations stay finite in
bf16 and greedy tokens vary. There is no tokenizer: benchmarks feed token ids.

A folder with a config.json and no weights stands for random weights, made where they are used: on a GPU
8 billion of them are there in a second, while a disk would take a minute. `open_model` opens both kinds.
"""

import argparse
import json
from pathlib import Path

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def config(shape):
    """Members of config.json; what is not said is as transformers has it."""
    return {
        **shape,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "head_dim": shape["hidden_size"] // shape["num_attention_heads"],
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def write_config(folder, dtype, shape):
    """Writes config.json by itself. This needs neither torch nor transformers, whose imports take longer
    than all else here: they are imported by the functions that do."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(shape) | {"dtype": dtype}, indent=2) + "\n")


def write(folder, dtype, shape, seed, device):
    """Writes config.json and weights drawn on the device."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    random_model(transformers.LlamaConfig(**config(shape)), dtype, device, seed).save_pretrained(folder)


def random_model(config, dtype, device, seed=1):
    """A model whose weights never were anywhere else than on the device, nor in another type. Each is
    drawn once: what transformers and torch would initialize them with is left out."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    torch.manual_seed(seed)
    with torch.no_grad(), torch.device(device), no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
        model.tie_weights()
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.fill_(1.0)
            elif "embed_tokens" in name:
                weight.normal_()
            else:
                weight.normal_(0.0, weight.shape[1] ** -0.5)
    return model.eval().requires_grad_(False)


def open_model(folder, dtype, device):
    """The model of a folder in transformers, with sdpa attention; of random weights if it has none."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    if any(Path(folder).glob("*.safetensors")):
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa").to(device).eval()
    return random_model(LlamaConfig.from_pretrained(folder), dtype, device)


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
    parser.add_argument("--config-only", action="store_true", help="config.json, no weights")
    a = parser.parse_args()
    shape = {
        "num_hidden_layers": a.layers,
        "hidden_size": a.d_model,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads or a.heads,
        "intermediate_size": a.d_mlp,
        "vocab_size": a.vocab,
    }
    if a.config_only:
        write_config(a.folder, DTYPES[a.dtype], shape)
    else:
        write(a.folder, DTYPES[a.dtype], shape, a.seed, a.device)


if __name__ == "__main__":
    main()
