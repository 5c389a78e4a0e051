"""The recipes give the very weights that the golden outputs were computed with."""

from __future__ import annotations

import zlib

import torch

from tests.goldens import Golden, echomimic_weights, hash_input, load_json, whisper_weights
from tests.weight_recipes import hash_recipe, sinusoid


def test_hash_recipe_gives_the_probed_full_size_weights() -> None:
    files = load_json("echomimic", "keys_full.json")["files"]
    denoising = {**files["denoising_unet.pth"], **files["motion_module.pth"]}
    networks = {"fullden:": denoising, "fullref:": files["reference_unet.pth"]}
    for key, first_values in load_json("echomimic", "fullsize_summary.json")["weight_probe"].items():
        expected = torch.tensor(first_values)
        candidates = [
            echomimic_weights(prefix, {key: shapes[key]})[key].flatten()[: len(expected)]
            for prefix, shapes in networks.items()
            if key in shapes
        ]
        # The probe does not say which of the two networks it was taken from: keys that both have may be of either.
        assert any(torch.equal(values, expected) for values in candidates), key


def test_hash_recipe_gives_the_stored_whisper_weights_bit_for_bit() -> None:
    golden = Golden("echomimic", "audio/w_whisper_small_encoder.safetensors")
    ours = whisper_weights("small")
    assert set(ours) == set(golden)
    for key in golden:
        assert torch.equal(ours[key], golden[key]), key


def test_hash_recipe_does_not_depend_on_how_many_values_are_made_at_once() -> None:
    large = hash_recipe("p:", {"a.bias": [200_000]})["a.bias"]
    assert torch.equal(hash_recipe("p:", {"a.bias": [100]})["a.bias"], large[:100])
    # Value i of the recipe, by hand in Python's integers, beyond the first chunk.
    h = (150_000 * 0x9E3779B9 + zlib.crc32(b"p:a.bias")) % 2**32
    h ^= h >> 16
    h = h * 0x85EBCA6B % 2**32
    h ^= h >> 13
    h = h * 0xC2B2AE35 % 2**32
    h ^= h >> 16
    assert large[150_000] == torch.tensor((h >> 8) * 2**-23 - 1) * 0.1


def test_hashed_inputs_are_the_stored_ones() -> None:
    stored = Golden("echomimic", "g_reference.safetensors")["latent"]
    assert torch.equal(hash_input("ref_latent", stored.shape, 0.8), stored)


def test_position_code_is_the_stored_one() -> None:
    stored = Golden("echomimic", "g_fullsize_hashweights.safetensors")["pe_320"]
    # Three of the 160 rates differ in their last bit between builds of torch's exp; times position 31 that is 1e-6.
    torch.testing.assert_close(sinusoid(stored.shape), stored, rtol=0, atol=2e-6)
