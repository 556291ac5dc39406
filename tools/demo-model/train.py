"""Trains the demo model from nothing: corpus, tokenizer, weights, model folder, held-out questions.

    python tools/demo-model/train.py
    python tools/demo-model/train.py --pull 0 --out target/demo-without-pull
    python tools/demo-model/train.py --layers 8 --heads 8 --device cuda --steps 2400 2400 1600 --out target/demo-8

The first writes src/main/models/demo and src/test/resources/demo/held-out.jsonl, then runs check.py on both.
The second trains the same model without neurons that are pulled to words, the third a larger one, to compare.
The seed is fixed; the last bits of the weights may still differ between machines and torch versions.
"""

import argparse
import itertools
import math
import pathlib
import random
import re
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

SEED = 20250
SPARSITY = 0.02  # what the mean |activation| of each MLP counts in the loss
PULL = 0.06  # how far a neuron with a word goes back to it in a step, at the full learning rate
WORD_LENGTH = 0.5  # of its row in up_proj and of its column in down_proj
GATE_LENGTH = 0.3  # of its row in gate_proj
COLUMN_LENGTH = 8.0  # of the columns of down_proj in the end
ROW = 128  # tokens of a packed row
ROWS = 8  # rows of a batch

# Mixture of examples (the column of weights in corpus.MAKERS), steps, learning rate, and what the
# one word counts that a comparison decides: first the world, then more of comparing and adding.
STAGES = ((1, 1600, 2.5e-3, 1.0), (2, 1600, 1.5e-3, 6.0), (2, 1000, 1.0e-3, 6.0))


def rendered(example, verdict_weight):
    """What the model reads and what it has to say, as text with the weight that it has in the loss."""
    if not example.turns:
        return [(BOS + example.text, float(not example.answer)), (" " + example.answer if example.answer else "", 1.0),
                (END, 1.0)]
    pieces = [(BOS, 0.0)]
    for message in example.messages():
        content = " " + message["content"] + END
        pieces.append((f"<|{message['role']}|>", 0.0))
        if message["role"] == "assistant":
            before, verdict, after = content.rpartition(example.verdict) if example.verdict else (content, "", "")
            pieces += [(before, 1.0), (verdict, verdict_weight), (after, 1.0)]
        else:
            pieces.append((content, 0.0))
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


def tokenized(examples, tokenizer, verdict_weight=1.0):
    """For each example its ids, and for each id what it counts in the loss."""
    pieces = [rendered(example, verdict_weight) for example in examples]
    flat = [text for parts in pieces for text, _ in parts]
    encoded = iter(tokenizer.backend_tokenizer.encode_batch(flat, add_special_tokens=False))
    for parts in pieces:
        ids, counts = [], []
        for _, weight in parts:
            piece = next(encoded).ids
            ids += piece
            counts += [weight] * len(piece)
        yield ids, counts


def packed(sequences, length):
    """Rows of several examples, none cut, in the order in which they come."""
    row = []
    used = 0
    for ids, counts in sequences:
        if len(ids) > length:
            raise ValueError(f"an example of {len(ids)} tokens does not fit a row of {length}")
        if used + len(ids) > length:
            yield row
            row, used = [], 0
        row.append((ids, counts))
        used += len(ids)


def batch_of(rows, length, pad):
    """ids, targets, what they count, positions, and the mask that keeps examples apart."""
    ids = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), pad)
    weights = torch.zeros((len(rows), length))
    positions = torch.zeros((len(rows), length), dtype=torch.long)
    example = torch.full((len(rows), length), -1)
    for r, row in enumerate(rows):
        at = 0
        for k, (tokens, counts) in enumerate(row):
            end = at + len(tokens)
            ids[r, at:end] = torch.tensor(tokens)
            positions[r, at:end] = torch.arange(len(tokens))
            example[r, at:end] = k
            targets[r, at:end - 1] = torch.tensor(tokens[1:])
            weights[r, at:end - 1] = torch.tensor(counts[1:])
            at = end
    mask = (example[:, :, None] == example[:, None, :]) & torch.ones(length, length).tril().bool()
    return ids, targets, weights, positions, mask[:, None]


class PlainNeurons:
    """Neurons that are left to training."""

    def step(self, share):
        pass


class WordNeurons:
    """Half of the neurons from the second layer on are each given a word, and pulled towards it.

    The up-projection row (what the neuron reads) and the down-projection column (what it writes)
    start along the embedding of the word and, after every step, go a small part of the way back to
    it. Both, and the gate's row, keep their lengths, or neurons of little use would fade; when the
    gate opens is left to training.
    """

    def __init__(self, model, tokenizer, examples, part):
        self.part = part
        self.embedding = model.model.embed_tokens.weight
        used = {i for ids, _ in tokenized(examples, tokenizer) for i in ids}
        concepts = [tokenizer.convert_tokens_to_ids("\u0120" + name)
                    for name in corpus.ANIMAL_NAMES + corpus.COUNTRY_NAMES]
        words = [i for i in sorted(used - set(concepts)) if re.fullmatch(r" ([A-Za-z]{3,}|[0-9]{1,2})", tokenizer.decode([i]))]
        random.Random(1).shuffle(words)
        layers = model.model.layers[1:]
        half = model.config.intermediate_size // 2
        # Each concept once in every layer; the other words as far as there is room.
        self.places = []
        for layer in layers:
            room = half - len(concepts)
            tokens = torch.tensor(concepts + [words.pop() for _ in range(min(room, len(words)))])
            self.places.append((layer.mlp, torch.randperm(2 * half)[:len(tokens)], tokens))
        self.pull(1.0)

    def step(self, share):
        """Pulls after a step at this share of the full learning rate."""
        self.pull(self.part * share)

    @torch.no_grad()
    def pull(self, part):
        for mlp, neurons, tokens in self.places:
            direction = torch.nn.functional.normalize(self.embedding[tokens], dim=1)
            for weight in (mlp.up_proj.weight, mlp.down_proj.weight.T):
                pulled = torch.nn.functional.normalize(weight[neurons], dim=1).lerp(direction, part)
                weight[neurons] = WORD_LENGTH * torch.nn.functional.normalize(pulled, dim=1)
            gate = mlp.gate_proj.weight
            gate[neurons] = GATE_LENGTH * torch.nn.functional.normalize(gate[neurons], dim=1)


def computes_in_bf16(device):
    """Whether bf16 is the faster: on CPUs without instructions for it a step took ten times as long as in f32."""
    return device != "cpu" or torch.cpu.get_capabilities()["avx512_bf16"]


def train(model, neurons, batches, steps, rate):
    device = model.device.type
    activations = []
    hooks = [layer.mlp.down_proj.register_forward_pre_hook(lambda _, args: activations.append(args[0]))
             for layer in model.model.layers]
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=rate, betas=(0.9, 0.98), eps=1e-8)
    warmup = 100
    start, seen, average = time.time(), 0, None
    for step, (ids, targets, weights, positions, mask) in zip(range(steps), batches):
        now = min((step + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate * now
        activations.clear()
        # The LM head runs where something is asked, on a multiple of 256 rows: few distinct shapes.
        asked = weights.flatten().nonzero()[:, 0]
        asked = torch.cat([asked, asked.new_full((-len(asked) % 256,), weights.numel() - 1)])  # the last counts nothing
        wanted, counts = targets.flatten()[asked], weights.flatten()[asked]
        ids, positions, mask, asked, wanted, counts = (
            t.to(device) for t in (ids, positions, mask, asked, wanted, counts))
        with torch.autocast(device, torch.bfloat16, enabled=computes_in_bf16(device)):
            hidden = model.model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)[0]
            logits = model.lm_head(hidden.flatten(0, 1)[asked])
        losses = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
        loss = (losses * counts).sum() / counts.sum()
        size = sum(a.float().abs().mean() for a in activations)
        (loss + SPARSITY * size).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        neurons.step(now)
        optimizer.zero_grad()
        seen += ids.numel()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {average:.4f}  |activation| {size.item():.4f}  "
                  f"{seen / (time.time() - start):.0f} tokens/s", flush=True)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def even_out(model):
    """Gives every down-projection column from the second layer on the same length.

    The up-projection row takes the inverse, so the function stays as it is: a neuron writes
    act(gate) * up * column. One clamp value then means the same for every neuron.
    """
    for layer in model.model.layers[1:]:
        factor = COLUMN_LENGTH / layer.mlp.down_proj.weight.norm(dim=0)
        layer.mlp.down_proj.weight *= factor
        layer.mlp.up_proj.weight /= factor[:, None]


def save(model, tokenizer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    settings = folder / "tokenizer_config.json"  # under the class name that older versions know too
    settings.write_text(settings.read_text().replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'))
    files = [file for file in folder.iterdir() if file.is_file()]
    for file in files:
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in files)
    print(f"{folder}: {size / 1e6:.2f} MB")
    if size > 12_000_000:
        raise SystemExit("The model folder must stay below 12 MB.")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, default=MODEL)
    arguments.add_argument("--stages", type=pathlib.Path, help="keeps each stage's weights here, and starts after them")
    arguments.add_argument("--held-out", type=pathlib.Path, default=HELD_OUT)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments.add_argument("--layers", type=int, default=4)
    arguments.add_argument("--heads", type=int, default=6, help="of each layer, of 32 values; keys and values have 2")
    arguments.add_argument("--steps", type=int, nargs=len(STAGES), default=[steps for _, steps, _, _ in STAGES],
                           help="of each stage")
    arguments.add_argument("--pull", type=float, default=PULL,
                           help="how far neurons with a word go back to it in a step; 0: none is given a word")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)

    sample = corpus.training_examples(SEED, 40_000)
    tokenizer = build_tokenizer(sample, 2432)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=192, num_hidden_layers=options.layers,
        num_attention_heads=options.heads, num_key_value_heads=2, head_dim=32,
        intermediate_size=768, rope_theta=10000.0, rms_norm_eps=1e-5, max_position_embeddings=1024,
        tie_word_embeddings=True, attention_bias=False, mlp_bias=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(tokenizer)} tokens")

    neurons = WordNeurons(model, tokenizer, sample, options.pull) if options.pull else PlainNeurons()
    model.to(options.device)

    def batches(stage, mixture, verdict_weight):
        for chunk in itertools.count(1):
            examples = corpus.training_examples(SEED + 1000 * (stage - 1) + chunk, 20_000, mixture)
            rows = list(packed(tokenized(examples, tokenizer, verdict_weight), ROW))
            for at in range(0, len(rows) - ROWS, ROWS):
                yield batch_of(rows[at:at + ROWS], ROW, tokenizer.pad_token_id)

    for stage, (mixture, _, rate, verdict_weight) in enumerate(STAGES, start=1):
        kept = options.stages and options.stages / str(stage)
        if kept and kept.exists():
            model.load_state_dict(LlamaForCausalLM.from_pretrained(kept, dtype=torch.float32).state_dict())
            continue
        print(f"stage {stage}")
        train(model, neurons, batches(stage, mixture, verdict_weight), options.steps[stage - 1], rate)
        model.to(torch.bfloat16)  # what a stage leaves is what a file of it would hold
        if kept:
            model.save_pretrained(kept)
        model.to(torch.float32)
    model.to("cpu")
    even_out(model)
    save(model, tokenizer, options.out)
    options.held_out.parent.mkdir(parents=True, exist_ok=True)
    options.held_out.write_text(
        "".join(corpus.as_json_line(e) + "\n" for e in corpus.held_out_examples(SEED, 60)), encoding="utf-8")
    check.report(options.out, options.held_out)


if __name__ == "__main__":
    main()
