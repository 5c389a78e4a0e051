"""Cached latents: the clips of a prepared dataset, encoded once, so that training need not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from portraitanim.data.records import LATENTS, read_manifest, write_manifest
from portraitanim.media.files import sha256_of, whole_file
from portraitanim.media.video import iter_video
from portraitanim.progress import ProgressReporter, SilentProgress


def autoencoder_fingerprint(autoencoder: Any) -> str:
    """A short hash of an autoencoder's weights and scaling factor: equal for equal latents, on any device."""
    digest = hashlib.sha256(f"{autoencoder.config.scaling_factor:.9g}".encode())
    for name, value in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def encode_pictures(autoencoder: Any, pictures: Tensor) -> Tensor:
    """Scaled mean latents of pictures ``(n, 3, height, width)`` in [-1, 1], as the pipeline makes them."""
    posterior = autoencoder.encode(pictures.to(autoencoder.device, autoencoder.dtype)).latent_dist
    return posterior.mode() * autoencoder.config.scaling_factor


def cache_latents(
    root: str | Path, autoencoder: Any, batch_size: int = 8, progress: ProgressReporter | None = None
) -> int:
    """Write ``latents.safetensors`` beside each clip's video and name it in the manifest.

    Clips whose latents this autoencoder has already made are left alone, so a run that broke off goes on.

    Args:
        root: a prepared dataset.
        autoencoder: diffusers' ``AutoencoderKL``.
        batch_size: frames that are encoded at once.
        progress: shows the clips.

    Returns:
        How many clips were encoded.
    """
    root, fingerprint = Path(root), autoencoder_fingerprint(autoencoder)
    records = list(read_manifest(root))
    done, count = [], 0
    with (progress or SilentProgress()).task("caching latents", len(records)) as shown:
        for record in records:
            target = str(PurePosixPath(record.video).with_name(LATENTS))
            if made_by(root / target) != fingerprint:
                stills = None if record.stills is None else root / record.stills
                encode_clip(root / record.video, root / target, autoencoder, fingerprint, batch_size, stills)
                count += 1
            sha256 = {**record.sha256, target: sha256_of(root / target)}
            done.append(replace(record, latents=target, sha256=sha256))
            shown.advance()
    write_manifest(root, done)
    return count


def encode_clip(
    video: Path, target: Path, autoencoder: Any, fingerprint: str, batch_size: int = 8, stills: Path | None = None
) -> None:
    """Write the latents of one clip.

    Args:
        video: its frames.
        target: the file to write.
        autoencoder: diffusers' ``AutoencoderKL``.
        fingerprint: of the autoencoder, from `autoencoder_fingerprint`.
        batch_size: frames that are encoded at once.
        stills: the clip's stills, whose latents are written too.
    """

    def encoded(pictures: Iterable[Tensor]) -> Tensor:
        batches = (batch.float() / 127.5 - 1 for batch in _batches(pictures, batch_size))
        return torch.cat([encode_pictures(autoencoder, batch).half().cpu() for batch in batches]).contiguous()

    latents = {"latents": encoded(torch.from_numpy(frame.image) for frame in iter_video(video))}
    if stills is not None:
        latents["stills"] = encoded(load_file(stills)["pictures"])
    metadata = {"autoencoder": fingerprint, "config": json.dumps(dict(autoencoder.config), default=str)}
    with whole_file(target) as partial:
        save_file(latents, partial, metadata)


def made_by(path: Path) -> str | None:
    """Fingerprint of the autoencoder that wrote a file of latents; ``None`` where there is no file."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get("autoencoder")


def _batches(frames: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    pending: list[Tensor] = []
    for frame in frames:
        pending.append(frame)
        if len(pending) == size:
            yield torch.stack(pending)
            pending = []
    if pending:
        yield torch.stack(pending)
