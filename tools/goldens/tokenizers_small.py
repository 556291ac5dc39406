#!/usr/bin/env python3
"""Goldens for dev.halter.text.Tokenizer: two small tokenizers and what tokenizers makes of texts.

Trains, on a few sentences written here, a byte-level BPE (as Llama 3 and Qwen have) and one with
"▁" for spaces and tokens for single bytes (as Llama 2 and Mistral have), and writes them with ids,
texts and pieces to src/test/resources/text/tokenizers/.

    python tools/goldens/tokenizers_small.py
"""

import json
import pathlib

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = pathlib.Path(__file__).resolve().parents[2] / "src/test/resources/text/tokenizers"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    "The llama carries the halter and the halter leads the llama.",
    "A dog is an animal. A cat is an animal. A zebra is an animal with stripes.",
    "What is your favourite animal? My favourite animal is the dog, and yours?",
    "Two plus two is four; three times three is nine. 12 345 6789.",
    "Das Lama geht über die Straße. Zażółć gęślą jaźń. Ça va très bien, señor.",
    "if (x == 1) {\n    return y;\n}\n\tprint('hello', end=\"\")\n",
] * 4
TEXTS = [
    "The llama and the dog.",
    "",
    " ",
    "   three   spaces   ",
    "\n\n\tindented\r\n  code {\n    x = 1;\n}\n",
    "What's your favourite animal? I'll say: they're dogs!",
    "Zażółć gęślą jaźń, Straße, señor",
    "你好，世界 こんにちは مرحبا",
    "🦙 and 🐕\u200d🦺 and 👩🏽\u200d🚀",
    "0 12 345 6789 3.14159",
    "<s>begin</s> <unk> <|begin|>x<|end|> <|pad|>",
    "<0x41>▁Ġ\u00a0\u2003",
    "nul\u0000 bell\u0007 e\u0301 \ufffd \ufeff",
    "a" * 40,
]


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>"])
    tokenizer.add_tokens(["<tool é>"])
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", begin)]
    )
    return json.loads(tokenizer.to_str())


def byte_fallback():
    special = ["<unk>", "<s>", "</s>"]
    tokens_of_bytes = [f"<0x{value:02X}>" for value in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=special + tokens_of_bytes, limit_alphabet=60, show_progress=False
    )
    # SentencePiece learns within words; without pre-tokenizer the trainer would learn sentences.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(CORPUS, trainer)
    saved = json.loads(tokenizer.to_str())
    saved["pre_tokenizer"] = None
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] in special]
    saved["post_processor"] = json.loads(
        processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]).__getstate__()
    )
    # What training code may leave in the file; Halter neither cuts nor pads.
    saved["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    saved["padding"] = {
        "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>",
    }
    return saved


def pieces(tokenizer):
    """Each token's text behind another one, where it is whole characters."""
    anchor = tokenizer.token_to_id("a")
    before = tokenizer.decode([anchor], skip_special_tokens=False)
    texts = {}
    for token in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([anchor, token], skip_special_tokens=False)
        if "\ufffd" not in text:
            texts[token] = text[len(before) :]
    return texts


def main():
    for name, saved in [("byte-level", byte_level()), ("byte-fallback", byte_fallback())]:
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(saved, ensure_ascii=False, separators=(",", ":")) + "\n"
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        cases = []
        for source in TEXTS:
            for special in (False, True):
                ids = tokenizer.encode(source, add_special_tokens=special).ids
                cases.append(
                    {
                        "text": source,
                        "special": special,
                        "ids": ids,
                        "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                        "without_special": tokenizer.decode(ids, skip_special_tokens=True),
                    }
                )
        goldens = {
            "made_with": {"tokenizers": tokenizers.__version__},
            "vocabulary": tokenizer.get_vocab_size(),
            "cases": cases,
            "pieces": pieces(tokenizer),
        }
        (folder / "expected.json").write_text(
            json.dumps(goldens, ensure_ascii=False, indent=None) + "\n", encoding="utf-8"
        )
        print(folder, tokenizer.get_vocab_size(), "tokens,", len(cases), "cases,", len(goldens["pieces"]), "pieces")


if __name__ == "__main__":
    main()
