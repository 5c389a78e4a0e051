"""wav2vec 2.0 at the video rate: lengths, padding, frozen mode, and long sound in passes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2Config, Wav2Vec2Model

from portraitanim.audio.wav2vec import Wav2Vec2AudioEncoder, normalise_loudness
from portraitanim.audio.wav2vec_passes import convolve_in_pieces, plan_passes
from portraitanim.errors import CheckpointError, InputError
from tests.audio_checkpoints import TINY_WAV2VEC


def tiny_config(**changes: object) -> Wav2Vec2Config:
    return Wav2Vec2Config(**{**TINY_WAV2VEC, **changes})


@pytest.fixture(scope="module")
def encoder() -> Wav2Vec2AudioEncoder:
    torch.manual_seed(0)
    return Wav2Vec2AudioEncoder(tiny_config())


def noise(num_samples: int) -> torch.Tensor:
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(1))


def test_one_state_per_video_frame_and_layer(encoder: Wav2Vec2AudioEncoder) -> None:
    features = encoder.encode(noise(16000), 25.0)
    assert features.states.shape == (25, 3, 16)
    assert (features.rate_hz, features.num_padding_steps) == (25.0, 0)
    assert len(encoder.encode(noise(16000), 30.0).states) == 30


def test_padding_fills_the_last_clip_and_is_counted(encoder: Wav2Vec2AudioEncoder) -> None:
    features = encoder.encode(noise(20 * 640), 25.0, pad_to_multiple_of=16)
    assert len(features.states) == 32
    assert features.num_valid_steps == 20
    whole = encoder.encode(noise(32 * 640), 25.0, pad_to_multiple_of=16)
    assert whole.num_padding_steps == 0


def test_loudness_does_not_matter(encoder: Wav2Vec2AudioEncoder) -> None:
    sound = noise(8000)
    quiet, loud = encoder.encode(0.1 * sound + 0.02, 25.0), encoder.encode(sound, 25.0)
    # The small constant under the root (1e-7) weighs more for the quiet sound: 5e-6 relative.
    torch.testing.assert_close(quiet.states, loud.states, atol=1e-3, rtol=0)


def test_silence_stays_finite(encoder: Wav2Vec2AudioEncoder) -> None:
    assert encoder.encode(torch.zeros(8000), 25.0).states.isfinite().all()
    assert not normalise_loudness(torch.zeros(100)).any()


def test_encoder_is_frozen_whatever_a_trainer_asks(encoder: Wav2Vec2AudioEncoder) -> None:
    parent = torch.nn.ModuleList([encoder]).train()
    assert parent.training
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder.encode(noise(8000), 25.0).states, encoder.encode(noise(8000), 25.0).states)


def test_sound_shorter_than_one_convolution_is_refused(encoder: Wav2Vec2AudioEncoder) -> None:
    with pytest.raises(InputError, match="at least 400"):
        encoder.encode(noise(399), 25.0)
    assert len(encoder.encode(noise(400), 25.0).states) == 1


@pytest.mark.parametrize("norms_first", [False, True])
def test_states_are_those_of_transformers_in_both_layouts(norms_first: bool) -> None:
    torch.manual_seed(0)
    norms = {"do_stable_layer_norm": norms_first, "feat_extract_norm": "layer" if norms_first else "group"}
    encoder = Wav2Vec2AudioEncoder(tiny_config(**norms, conv_bias=norms_first))
    reference = Wav2Vec2Model(encoder.config).eval()
    reference.load_state_dict(encoder.state_dict())
    # At the rate of the convolutions (49 steps of 16000 samples) nothing is interpolated.
    states = encoder.encode(noise(16000), 49.0).states
    with torch.no_grad():
        output = reference(normalise_loudness(noise(16000))[None], output_hidden_states=True)
    # Whether the norm behind the blocks is in the last of hidden_states depends on transformers' release.
    expected = [*output.hidden_states[1:-1], output.last_hidden_state]
    torch.testing.assert_close(states, torch.stack([layer[0] for layer in expected], dim=1), atol=1e-5, rtol=1e-5)


def test_large_layout_in_pieces_equals_one_pass_of_the_convolutions() -> None:
    encoder = Wav2Vec2AudioEncoder(tiny_config(do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True))
    sound = noise(48000)
    with torch.no_grad():
        whole = encoder.feature_extractor(sound[None])
        pieces = convolve_in_pieces(encoder.feature_extractor.conv_layers, sound, 16000)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


def test_adapter_behind_the_blocks_is_refused() -> None:
    with pytest.raises(CheckpointError, match="add_adapter: false"):
        Wav2Vec2AudioEncoder(tiny_config(add_adapter=True))


@given(
    num_frames=st.integers(1, 500),
    fps=st.sampled_from([24.0, 25.0, 29.97]),
    overlap=st.floats(0, 2),
    kept=st.floats(0.1, 5),
)
def test_passes_keep_each_frame_once_and_see_the_overlap(
    num_frames: int, fps: float, overlap: float, kept: float
) -> None:
    # 2 frames more than asked, for the overlaps that are rounded up.
    longest = 2 * overlap + kept + 2 / fps
    passes = plan_passes(num_frames, fps, longest, overlap)
    kept_frames = [frame for piece in passes for frame in range(piece.kept_start, piece.kept_stop)]
    assert kept_frames == list(range(num_frames))
    for piece in passes:
        assert piece.seen_stop - piece.seen_start <= longest * fps
        assert piece.seen_start == 0 or piece.kept_start - piece.seen_start >= overlap * fps
        assert piece.seen_stop == num_frames or piece.seen_stop - piece.kept_stop >= overlap * fps


def test_passes_without_room_between_the_overlaps_are_refused(encoder: Wav2Vec2AudioEncoder) -> None:
    with pytest.raises(InputError, match="longer than twice the overlap"):
        encoder.encode(noise(16000), 25.0, max_seconds_per_pass=4.0, overlap_seconds=2.0)


def test_sound_that_fits_into_one_pass_is_encoded_as_published(encoder: Wav2Vec2AudioEncoder) -> None:
    sound = noise(16000)
    assert torch.equal(encoder.encode(sound, 25.0, max_seconds_per_pass=5.0).states, encoder.encode(sound, 25.0).states)


def test_passes_differ_from_one_pass_by_the_reach_of_attention_only() -> None:
    torch.manual_seed(0)
    encoder = Wav2Vec2AudioEncoder(tiny_config())
    sound = noise(10 * 16000)
    passes = {"max_seconds_per_pass": 3.0, "overlap_seconds": 0.5}
    assert not torch.allclose(
        encoder.encode(sound, 25.0).states, encoder.encode(sound, 25.0, **passes).states, atol=1e-4
    )
    for layer in encoder.encoder.layers:
        layer.attention.out_proj.weight.zero_()
    # Without attention nothing may depend on where the sound was cut. Other sums over time round differently: 1e-5.
    torch.testing.assert_close(
        encoder.encode(sound, 25.0, **passes).states, encoder.encode(sound, 25.0).states, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("norm", ["group", "layer"])
@settings(max_examples=20)
@given(num_samples=st.integers(400, 9000), samples_per_piece=st.integers(1, 5000))
def test_convolutions_in_pieces_are_those_of_the_whole(norm: str, num_samples: int, samples_per_piece: int) -> None:
    torch.manual_seed(0)
    extractor = Wav2Vec2AudioEncoder(tiny_config(feat_extract_norm=norm)).feature_extractor
    sound = noise(num_samples)
    with torch.no_grad():
        pieces = convolve_in_pieces(extractor.conv_layers, sound, samples_per_piece)
        whole = extractor(sound[None])
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)  # statistics in float64 instead of float32
