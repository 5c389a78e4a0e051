"""EchoMimic in its published size, with hashed weights, against the numbers of the published code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from portraitanim.checkpoints.key_table import translate
from portraitanim.checkpoints.keys import ECHOMIMIC_KEYS
from portraitanim.config.presets import load_preset
from portraitanim.models.motion_module import MotionModule, sinusoidal_positions
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.pipelines.build import build_networks
from portraitanim.types import BatchLayout, Branch
from tests.goldens import Golden, echomimic_weights, load_json
from tests.parity.compare import assert_close
from tests.parity.test_hallo_networks import frames_first

_FILE = "g_fullsize_hashweights.safetensors"

# goldens/echomimic/README.md; features, up to 5 in size, may be twice as far off as outputs (measured: 9e-6 and 7e-6).
OUTPUTS = 1e-5
FEATURES = 2e-5

pytestmark = [pytest.mark.slow, pytest.mark.reads(f"echomimic/{_FILE}")]


@lru_cache(maxsize=1)
def full_size_networks() -> dict[str, torch.nn.Module]:
    """The published networks with hashed weights: 2.1 billion values, 8.5 GB."""
    preset = load_preset("echomimic")
    files = load_json("echomimic", "keys_full.json")["files"]
    published = {
        "reference_unet": ("fullref:", files["reference_unet.pth"]),
        "denoising_unet": ("fullden:", files["denoising_unet.pth"] | files["motion_module.pth"]),
        "condition_encoder": ("fullloc:", files["face_locator.pth"]),
    }
    networks = build_networks(preset, device="meta")
    for name, network in networks.items():
        expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        weights = translate(echomimic_weights(*published[name]), ECHOMIMIC_KEYS[name](preset), expected)
        network.load_state_dict(weights, assign=True)
        for module in network.modules():
            if isinstance(module, MotionModule):  # no file holds its table, so it is still without memory
                module.positions = sinusoidal_positions(*module.positions.shape[1:])
        assert not [key for key, tensor in network.state_dict(keep_vars=True).items() if tensor.is_meta]
    return networks


def full_size_network(rounded: bool) -> PortraitNetwork:
    """The networks as one, with or without the rounding of reference features to float16."""
    quirks = replace(load_preset("echomimic").quirks, round_reference_to_half=rounded)
    return PortraitNetwork(**full_size_networks(), quirks=quirks)


def sample_of(feature: Tensor) -> Tensor:
    """The part of a feature ``(1, tokens, channels)`` that the goldens keep."""
    return feature[:, :: max(1, feature.shape[1] // 4), ::16]


def test_face_box_encoder_in_full_size() -> None:
    golden = Golden("echomimic", _FILE)
    encoder = full_size_networks()["condition_encoder"]
    assert_close(frames_first(encoder(frames_first(golden["mask"]))), golden["mask_fea"], FEATURES)


def test_reference_features_in_full_size() -> None:
    golden = Golden("echomimic", _FILE)
    facts: Mapping[str, dict] = load_json("echomimic", "fullsize_summary.json")
    features = full_size_network(rounded=False).encode_reference(golden["ref_latent"], None)
    for match in golden.matching(r"bank_sample/((.+)\.transformer_blocks\.0)"):
        feature = features.pop(match[2])
        assert list(feature.shape) == facts[match[1]]["shape"]
        assert_close(sample_of(feature), golden[match.string], FEATURES)
        # The sample is a fraction of the feature; its mean, deviation and largest value watch the rest.
        assert feature.mean().item() == pytest.approx(facts[match[1]]["mean"], abs=1e-5)
        assert feature.std().item() == pytest.approx(facts[match[1]]["std"], abs=1e-5)
        assert feature.abs().max().item() == pytest.approx(facts[match[1]]["absmax"], abs=FEATURES)
    assert not features, "every recorded layer has its golden"


@pytest.mark.parametrize("bank", ["bank32", "bank16"])
def test_one_denoising_call_in_full_size(bank: str) -> None:
    golden = Golden("echomimic", _FILE)
    network = full_size_network(rounded=bank == "bank16")
    branches = (Branch.UNCONDITIONAL, Branch.FULL)
    context = network.prepare(
        BatchLayout(num_portraits=1, branches=branches),
        reference=network.project_reference(network.encode_reference(golden["ref_latent"], None), None),
        audio_tokens=golden["audio"],
        condition=frames_first(golden["mask_fea"]),
    )
    sample = frames_first(golden["latent"]).repeat(len(branches), 1, 1, 1, 1)
    for match in golden.matching(rf"out_cfg_t(\d+)_{bank}"):
        ours = frames_first(network.denoise(sample, int(match[1]), context))
        assert_close(ours, golden[match.string], OUTPUTS)


def test_position_code_in_full_size() -> None:
    golden = Golden("echomimic", _FILE)
    for match in golden.matching(r"pe_(\d+)"):
        stored = golden[match.string]
        # Rates differ in their last bit between builds of torch's exp; times position 31 that is 1e-6.
        assert_close(sinusoidal_positions(*stored.shape[1:]), stored, 2e-6)
