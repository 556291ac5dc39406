"""What the peers compute is what they say: models without weights on disk, static decode, pursuit. On the
CPU, with torch and transformers:

    python bench/python/test_torch.py
"""

import tempfile
import unittest
from pathlib import Path

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import generate
import random_model
from sparse_coding import pursue, unit

SHAPE = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 96, "vocab_size": 300}


def opened(dtype):
    """The engine of a folder with a config.json alone."""
    with tempfile.TemporaryDirectory() as folder:
        random_model.write_config(Path(folder), random_model.DTYPES[dtype], SHAPE)
        return generate.Transformers(folder, dtype, "cpu")


class RandomModel(unittest.TestCase):
    def test_all_but_the_weights_is_as_transformers_builds_it(self):
        model = opened("f32").model
        built = LlamaForCausalLM(LlamaConfig.from_dict(model.config.to_dict())).eval()
        built.load_state_dict(model.state_dict())
        ids = torch.arange(3, 40)[None]
        self.assertTrue(torch.equal(model(ids).logits, built(ids).logits))
        half = opened("bf16").model
        for buffer, other in zip(half.buffers(), built.buffers(), strict=True):
            self.assertTrue(torch.equal(buffer, other))  # frequencies stay f32
        self.assertEqual({weight.dtype for weight in half.parameters()}, {torch.bfloat16})

    def test_default_type_stays(self):
        opened("bf16")
        self.assertEqual(torch.get_default_dtype(), torch.float32)

    def test_config_alone_means_what_a_whole_folder_does(self):
        with tempfile.TemporaryDirectory() as folder:
            whole, alone = Path(folder) / "whole", Path(folder) / "alone"
            random_model.write(whole, "bfloat16", SHAPE, 1, "cpu")
            random_model.write_config(alone, "bfloat16", SHAPE)
            read = [LlamaConfig.from_pretrained(each).to_dict() for each in (whole, alone)]
            self.assertEqual(*({k: v for k, v in each.items() if k != "transformers_version"} for each in read))


class StaticDecode(unittest.TestCase):
    def equal(self, batch, prompt, tokens):
        engine = opened("f32")
        with torch.inference_mode():
            theirs = self.transformers(engine.model, engine.prompt(batch, prompt), tokens)
            decode = engine.static(batch, tokens, prompt, generate.greedy)
            self.assertLess(decode.difference, 1e-5)
            for _ in range(2):  # a second time after a reset
                decode.reset()
                for ids, logits in theirs:
                    self.assertTrue(torch.equal(decode.ids, ids))
                    decode.run(1)
                    torch.testing.assert_close(decode.logits, logits, rtol=1e-4, atol=1e-4)

    def transformers(self, model, prompt, tokens):
        """(ids, logits after them) of each step."""
        cache, steps = DynamicCache(config=model.config), []
        ids = model(prompt, past_key_values=cache, logits_to_keep=1).logits[:, -1].argmax(-1)
        for _ in range(tokens):
            logits = model(ids[:, None], past_key_values=cache, logits_to_keep=1).logits[:, -1]
            steps.append((ids, logits))
            ids = logits.argmax(-1)
        return steps

    def test_tokens_and_logits_are_those_of_transformers(self):
        self.equal(3, 16, 20)

    def test_so_with_attention_by_two_products(self):
        self.equal(2, 540, 8)

    def test_sampling_keeps_to_its_bounds(self):
        logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(20_000, 1)  # p = 0.64, 0.24, 0.09, 0.03
        for options, most in (({}, 4), ({"top_k": 2}, 2), ({"top_p": 0.7}, 2), ({"top_p": 0.6}, 1)):
            counts = generate.sample(logits, **options).bincount(minlength=4)
            p = logits[0].softmax(-1) * (torch.arange(4) < most)
            torch.testing.assert_close(counts / counts.sum(), p / p.sum(), rtol=0, atol=0.02)


class Pursuit(unittest.TestCase):
    def test_coefficients_are_least_squares_of_the_support(self):
        atoms, z = unit(torch.randn(500, 64)), unit(torch.randn(7, 64))
        for gram in (None, atoms @ atoms.T):
            coefficients, support = pursue(atoms, z, 10, gram)
            expected = torch.linalg.lstsq(atoms[support].mT, z[:, :, None]).solution[:, :, 0]
            torch.testing.assert_close(coefficients, expected, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    unittest.main()
