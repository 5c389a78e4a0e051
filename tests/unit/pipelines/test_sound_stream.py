"""Sound that is encoded as it arrives gives what the whole sound gives, and is read no further than needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2Config, WhisperConfig

from portraitanim.audio.frame_windows import frame_windows
from portraitanim.audio.log_mel import LogMelAudioEncoder
from portraitanim.audio.streaming import LogMelSpans, NearbySpans
from portraitanim.audio.wav2vec import Wav2Vec2AudioEncoder
from portraitanim.audio.whisper import WhisperAudioEncoder
from portraitanim.errors import InputError
from portraitanim.pipelines.sound_stream import FrameRows, SoundStream

RATE_HZ = 16000


def sound(seconds: float) -> torch.Tensor:
    return torch.rand(round(seconds * RATE_HZ), generator=torch.Generator().manual_seed(0)) - 0.5


def log_mel_stream(chunks: Iterator[torch.Tensor], fps: float = 25.0, window: int = 5) -> SoundStream:
    rows = FrameRows(kind="centred", fps=fps, window=window, multiple=8)
    return SoundStream(chunks=chunks, spans=LogMelSpans(LogMelAudioEncoder(), fps), rows=rows, dtype=torch.float32)


def clips_of(stream: SoundStream, length: int = 8) -> torch.Tensor:
    """All windows, asked for and released clip by clip as the pipeline does."""
    clips = []
    while stream.goes_on(len(clips) * length):
        start = len(clips) * length
        stream.release(start)
        clips.append(stream.windows(range(start, stream.frames_until(start + length))))
    return torch.cat(clips, dim=1)


@settings(max_examples=15)
@given(
    num_samples=st.integers(1, 3 * RATE_HZ), size=st.integers(50, 9000), fps=st.sampled_from([24.0, 25.0, 29.97, 60.0])
)
def test_states_of_the_stream_are_those_of_the_whole_sound(num_samples: int, size: int, fps: float) -> None:
    waveform = sound(3.0)[:num_samples]
    streamed = clips_of(log_mel_stream(iter(waveform.split(size)), fps))
    features = LogMelAudioEncoder().encode(waveform, fps, 8)
    whole = frame_windows(features, "centred", fps, window=5)[None]
    assert streamed.shape == whole.shape
    # The same arithmetic over other stretches: transforms and products of other sizes round otherwise.
    torch.testing.assert_close(streamed, whole, atol=2e-5, rtol=0)


@settings(max_examples=10)
@given(size=st.integers(1, 5000))
def test_where_chunks_are_cut_changes_no_bit(size: int) -> None:
    waveform = sound(1.3)
    assert torch.equal(clips_of(log_mel_stream(iter(waveform.split(size)))), clips_of(log_mel_stream(iter([waveform]))))


def test_clip_is_ready_ninety_milliseconds_behind_its_end() -> None:
    read = 0

    def chunks() -> Iterator[torch.Tensor]:
        nonlocal read
        for chunk in sound(2.0).split(10):
            read += len(chunk)
            yield chunk

    stream = log_mel_stream(chunks())
    for number in range(4):
        stream.windows(range(8 * number, 8 * number + 8))
        # Two frames to the side, and half of a 25 ms transform.
        assert read == pytest.approx((8 * number + 10) * 640 + 120, abs=10)


def test_nothing_is_kept_behind_the_frames_in_hand() -> None:
    stream = log_mel_stream(iter(sound(20.0).split(1000)))
    clips_of(stream)
    assert stream._states is not None
    assert len(stream._states) <= 8 + 4
    assert sum(map(len, stream._waiting)) < 1000
    with pytest.raises(InputError, match="released"):
        stream.windows([0])


def test_length_is_known_at_the_end_and_not_before() -> None:
    stream = log_mel_stream(iter(sound(0.5).split(640)))
    stream.frames_until(4)
    assert (stream.has_ended, stream.sounding_until(4)) == (False, 4)
    assert not stream.goes_on(16)
    assert (stream.frames_until(100), stream.sounding_until(16), stream.num_frames) == (16, 13, 16)


def test_empty_sound_is_refused() -> None:
    with pytest.raises(InputError, match="0 samples"):
        log_mel_stream(iter([])).frames_until(1)


def test_damaged_chunk_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        log_mel_stream(iter([torch.full((900,), float("nan"))])).frames_until(1)


def whisper() -> WhisperAudioEncoder:
    torch.manual_seed(0)
    return WhisperAudioEncoder(
        WhisperConfig(d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16)
    )


def wav2vec() -> Wav2Vec2AudioEncoder:
    torch.manual_seed(0)
    return Wav2Vec2AudioEncoder(
        Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )
    )


@pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
def test_transformers_hear_the_whole_sound_where_it_lies_within_their_reach(name: str) -> None:
    """With reach enough, one stretch is the whole sound, and the states are those of the file."""
    encoder, fps = (wav2vec(), 25.0) if name == "wav2vec2" else (whisper(), 24.0)
    kind, rate_hz = ("centred", fps) if name == "wav2vec2" else ("whisper", 50.0)
    waveform = sound(1.28)
    stream = SoundStream(
        chunks=iter(waveform.split(700)),
        spans=NearbySpans(encoder, rate_hz, fps, look_ahead_seconds=5.0),
        rows=FrameRows(kind=kind, fps=fps, window=5, multiple=None),
        dtype=torch.float32,
    )
    whole = frame_windows(encoder.encode(waveform, fps), kind, fps, window=5)[None]
    torch.testing.assert_close(stream.windows(range(stream.num_frames)), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
def test_transformers_wait_for_the_look_ahead_and_no_more(name: str) -> None:
    encoder, fps = (wav2vec(), 25.0) if name == "wav2vec2" else (whisper(), 25.0)
    kind, rate_hz, reach = ("centred", fps, 2 / 25) if name == "wav2vec2" else ("whisper", 50.0, 5 / 50)
    stream = SoundStream(
        chunks=iter(sound(4.0).split(100)),
        spans=NearbySpans(encoder, rate_hz, fps, look_ahead_seconds=0.3),
        rows=FrameRows(kind=kind, fps=fps, window=5, multiple=None),
        dtype=torch.float32,
    )
    made = stream.windows(range(20))
    assert made.isfinite().all()
    assert stream.num_samples / RATE_HZ == pytest.approx(20 / 25 + reach + 0.3, abs=0.03)
    assert not stream.has_ended
