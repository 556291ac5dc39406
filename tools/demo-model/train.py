"""Trains the demo model from nothing: corpus, tokenizer, weights, model folder, held-out questions.

    python tools/demo-model/train.py

writes src/main/models/demo and src/test/resources/demo/held-out.jsonl, then runs check.py on both.
The seed is fixed; the last bits of the weights may still differ between CPUs and torch versions.
"""

import argparse
import json
import math
import pathlib
import random
import time

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import check
import corpus

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "src/main/models/demo"
HELD_OUT = ROOT / "src/test/resources/demo/held-out.jsonl"

BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

# One space stands before every turn, so that a word is the same token at the start of an answer
# and in the middle of a sentence: " dog" is one token, one embedding, one concept.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('Unknown role ' + message['role']) }}
    {%- endif %}
    {%- if message['role'] == 'system' and not loop.first %}
        {{- raise_exception('The system message must come first') }}
    {%- endif %}
    {{- '<|' + message['role'] + '|> ' + message['content'] | trim + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""

# The pattern of GPT-2 with at most three digits together.
WORDS = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

ROW = 128  # tokens of a packed row
ROWS = 16  # rows of a batch


def rendered(example):
    """What the model reads and what it has to say, as text."""
    if not example.turns:
        return [(BOS + example.text, not example.answer), (" " + example.answer if example.answer else "", True),
                (END, True)]
    pieces = [(BOS, False)]
    for message in example.messages():
        answer = message["role"] == "assistant"
        pieces.append((f"<|{message['role']}|>", False))
        pieces.append((" " + message["content"] + END, answer))
    return pieces


def build_tokenizer(examples, vocabulary):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    texts = [text for example in examples for text in (example.system, example.text, *example.turns) if text]
    whole = corpus.ANIMAL_NAMES + corpus.COUNTRY_NAMES + ["×", "bomb", "gun"] + [str(n) for n in range(100)]
    emphasis = [" " + word for word in whole for _ in range(500)] + [str(n) for n in range(100) for _ in range(300)]
    tokenizer.train_from_iterator(
        [" " + text for text in texts] + emphasis,
        trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[BOS, END, PAD, *ROLES],
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=END, pad_token=PAD,
                                   chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False,
                                   model_max_length=1024)


def tokenized(examples, tokenizer):
    """For each example its ids, and for each id whether the model has to predict it."""
    pieces = [rendered(example) for example in examples]
    flat = [text for parts in pieces for text, _ in parts]
    encoded = iter(tokenizer.backend_tokenizer.encode_batch(flat, add_special_tokens=False))
    for parts in pieces:
        ids, wanted = [], []
        for _, say in parts:
            piece = next(encoded).ids
            ids += piece
            wanted += [say] * len(piece)
        wanted[0] = False
        yield ids, wanted


def packed(sequences, length):
    """Rows of several examples, none cut, in the order in which they come."""
    row = []
    used = 0
    for ids, wanted in sequences:
        if len(ids) > length:
            raise ValueError(f"an example of {len(ids)} tokens does not fit a row of {length}")
        if used + len(ids) > length:
            yield row
            row, used = [], 0
        row.append((ids, wanted))
        used += len(ids)


def batch_of(rows, length, pad):
    """ids, targets (-100 where nothing is asked), positions, and the mask that keeps examples apart."""
    ids = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), -100)
    positions = torch.zeros((len(rows), length), dtype=torch.long)
    example = torch.full((len(rows), length), -1)
    for r, row in enumerate(rows):
        at = 0
        for k, (tokens, wanted) in enumerate(row):
            end = at + len(tokens)
            ids[r, at:end] = torch.tensor(tokens)
            positions[r, at:end] = torch.arange(len(tokens))
            example[r, at:end] = k
            asked = torch.tensor([t if w else -100 for t, w in zip(tokens, wanted)])
            targets[r, at:end - 1] = asked[1:]
            at = end
    mask = (example[:, :, None] == example[:, None, :]) & torch.ones(length, length).tril().bool()
    return ids, targets, positions, mask[:, None]


def train(model, batches, steps, rate, sparsity):
    activations = []
    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, args: activations.append(args[0]))
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=rate, betas=(0.9, 0.98), eps=1e-8)
    warmup = 100
    start, seen, average = time.time(), 0, None
    for step, (ids, targets, positions, mask) in zip(range(steps), batches):
        now = min((step + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate * now
        activations.clear()
        # The head runs where something is asked, on a multiple of 256 rows: few distinct shapes.
        asked = (targets.flatten() != -100).nonzero()[:, 0]
        asked = torch.cat([asked, torch.zeros(-len(asked) % 256, dtype=torch.long)])  # row 0 asks nothing
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)[0]
            logits = model.lm_head(hidden.flatten(0, 1)[asked])
        loss = torch.nn.functional.cross_entropy(logits.float(), targets.flatten()[asked])
        size = sum(a.float().abs().mean() for a in activations)
        (loss + sparsity * size).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += ids.numel()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {average:.4f}  |activation| {size.item():.4f}  "
                  f"{seen / (time.time() - start):.0f} tokens/s", flush=True)


def save(model, tokenizer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")
    if size > 6_000_000:
        raise SystemExit("The model folder must stay below 6 MB.")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, default=MODEL)
    arguments.add_argument("--held-out", type=pathlib.Path, default=HELD_OUT)
    arguments.add_argument("--steps", type=int, default=2500)
    arguments.add_argument("--rate", type=float, default=3e-3)
    arguments.add_argument("--sparsity", type=float, default=0.02)
    arguments.add_argument("--d-model", type=int, default=192)
    arguments.add_argument("--layers", type=int, default=4)
    arguments.add_argument("--heads", type=int, default=6)
    arguments.add_argument("--kv-heads", type=int, default=2)
    arguments.add_argument("--d-mlp", type=int, default=768)
    arguments.add_argument("--vocabulary", type=int, default=2432)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=20250)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    tokenizer = build_tokenizer(corpus.training_examples(options.seed, 40_000), options.vocabulary)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=options.d_model, num_hidden_layers=options.layers,
        num_attention_heads=options.heads, num_key_value_heads=options.kv_heads, head_dim=32,
        intermediate_size=options.d_mlp, rope_theta=10000.0, rms_norm_eps=1e-5, max_position_embeddings=1024,
        tie_word_embeddings=True, attention_bias=False, mlp_bias=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(tokenizer)} tokens")

    def batches():
        chunk = 0
        while True:
            chunk += 1
            examples = corpus.training_examples(options.seed + chunk, 20_000)
            rows = list(packed(tokenized(examples, tokenizer), ROW))
            for at in range(0, len(rows) - ROWS, ROWS):
                yield batch_of(rows[at:at + ROWS], ROW, tokenizer.pad_token_id)

    train(model, batches(), options.steps, options.rate, options.sparsity)
    save(model, tokenizer, options.out)
    options.held_out.parent.mkdir(parents=True, exist_ok=True)
    options.held_out.write_text(
        "".join(corpus.as_json_line(e) + "\n" for e in corpus.held_out_examples(options.seed, 60)), encoding="utf-8")
    check.report(options.out, options.held_out)


if __name__ == "__main__":
    main()
