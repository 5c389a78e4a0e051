"""What networks make of a written clip: states of audio encoders, an identity embedding, latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from portraitanim.data.latents import autoencoder_fingerprint, encode_clip
from portraitanim.data.preparation.motion_measures import yaws_degrees
from portraitanim.data.preparation.state import ClipOutcome, PreparationState, read_json, write_json
from portraitanim.data.records import AUDIO, FACE, LATENTS, VIDEO
from portraitanim.errors import InputError, ShapeError
from portraitanim.media.audio import load_audio
from portraitanim.media.files import sha256_of, whole_file
from portraitanim.media.video import iter_video

if TYPE_CHECKING:
    from portraitanim.audio.encoders import AudioEncoder

IdentityEncoder = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""uint8 picture ``(3, height, width)`` and its landmarks ``(478, 3)`` in pixels → embedding float32 ``(512,)``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentEncoder:
    """An autoencoder whose latents are stored.

    Attributes:
        autoencoder: diffusers' ``AutoencoderKL``.
        fingerprint: of its weights, see `portraitanim.data.latents`.
    """

    autoencoder: Any
    fingerprint: str

    @classmethod
    def of(cls, autoencoder: Any) -> LatentEncoder:
        """With the fingerprint, which reads all weights once."""
        return cls(autoencoder=autoencoder, fingerprint=autoencoder_fingerprint(autoencoder))


@dataclass(frozen=True, kw_only=True)
class FeatureNetworks:
    """The networks whose outputs are stored with the clips; none by default.

    Attributes:
        audio: audio encoders by name.
        identity: the identity encoder.
        latents: the autoencoder.
    """

    audio: Mapping[str, AudioEncoder] = field(default_factory=dict)
    identity: IdentityEncoder | None = None
    latents: LatentEncoder | None = None

    @property
    def are_none(self) -> bool:
        """Whether there is nothing to do."""
        return not self.audio and self.identity is None and self.latents is None


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """Which features a clip has.

    Attributes:
        audio_states: names of the audio encoders whose states are there.
        has_identity: whether the face file holds an embedding.
        latents_by: fingerprint of the autoencoder whose latents are there, or ``None``.
        sha256: file → hash of its bytes, for files that were written or written anew.
    """

    audio_states: tuple[str, ...] = ()
    has_identity: bool = False
    latents_by: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)


def stored_features(state: PreparationState, clip_id: str) -> ClipFeatures:
    """What `add_features` has done for a clip so far."""
    values = read_json(_path(state, clip_id))
    if not isinstance(values, dict):
        return ClipFeatures()
    return ClipFeatures(**{**values, "audio_states": tuple(values["audio_states"])})


def forget_features(state: PreparationState, clip_id: str) -> None:
    """A clip that is written anew has none."""
    _path(state, clip_id).unlink(missing_ok=True)


def add_features(state: PreparationState, outcome: ClipOutcome, networks: FeatureNetworks, fps: float) -> ClipFeatures:
    """Write the features that a clip does not have yet; latents of another autoencoder are replaced.

    Args:
        state: of the dataset.
        outcome: a written clip.
        networks: what to run.
        fps: frame rate of the dataset.

    Raises:
        ShapeError: the identity encoder gives something else than 512 numbers.
    """
    folder = state.root / "clips" / outcome.clip_id
    done = stored_features(state, outcome.clip_id)
    sha256 = dict(done.sha256)
    encoders = {
        name: encoder for name, encoder in networks.audio.items() if outcome.has_sound and name not in done.audio_states
    }
    wants_identity = networks.identity is not None and not done.has_identity
    latents = networks.latents if networks.latents and networks.latents.fingerprint != done.latents_by else None
    if not encoders and not wants_identity and latents is None:
        return done
    for name, encoder in encoders.items():
        path = folder / audio_file(name)
        _write_audio_states(path, encoder, folder / AUDIO, fps)
        sha256[path.name] = sha256_of(path)
    if wants_identity:
        assert networks.identity is not None
        _write_identity(folder / FACE, networks.identity, folder / VIDEO)
        sha256[FACE] = sha256_of(folder / FACE)
    if latents is not None:
        encode_clip(folder / VIDEO, folder / LATENTS, latents.autoencoder, latents.fingerprint)
        sha256[LATENTS] = sha256_of(folder / LATENTS)
    features = ClipFeatures(
        audio_states=tuple(sorted({*done.audio_states, *encoders})),
        has_identity=done.has_identity or wants_identity,
        latents_by=done.latents_by if latents is None else latents.fingerprint,
        sha256=sha256,
    )
    write_json(_path(state, outcome.clip_id), vars(features))
    return features


def audio_file(encoder_name: str) -> str:
    """Name of the file with the states of an audio encoder."""
    return f"audio-{encoder_name}.safetensors"


def identity_of(folder: Path) -> np.ndarray:
    """The embedding ``(512,)`` in a clip's folder."""
    embedding: np.ndarray = load_file(folder / FACE)["identity"]
    return embedding


def _write_audio_states(path: Path, encoder: AudioEncoder, audio: Path, fps: float) -> None:
    """Half-precision states of the clip's own sound; their rate stands in the file's metadata."""
    samples = torch.from_numpy(load_audio(audio).samples[0])
    features = encoder.encode(samples, fps)
    states = features.states[: features.num_valid_steps].to("cpu", torch.float16).contiguous()
    if not bool(states.isfinite().all()):
        raise InputError(
            f"States of {features.encoder} are beyond the range of half precision, in which they are stored. "
            "Leave --audio-encoder out: train encodes in place."
        )
    with whole_file(path) as partial:
        metadata = {"rate_hz": f"{features.rate_hz:g}", "encoder": features.encoder}
        save_file({"states": states}, partial, metadata=metadata)


def _write_identity(path: Path, encoder: IdentityEncoder, video: Path) -> None:
    """The embedding of the frame in which the face is turned least to a side."""
    tensors = load_file(path)
    points = tensors["landmarks"]
    frontal = int(np.argmin(np.abs(yaws_degrees(points))))
    image = next(frame.image for number, frame in enumerate(iter_video(video)) if number == frontal)
    embedding = np.asarray(encoder(image, points[frontal]), np.float32)
    if embedding.shape != (512,):
        raise ShapeError(f"An identity embedding must be (512,), got {embedding.shape}.")
    with whole_file(path) as partial:
        save_arrays({**tensors, "identity": embedding}, partial)


def _path(state: PreparationState, clip_id: str) -> Path:
    return state.folder / "features" / f"{clip_id}.json"
