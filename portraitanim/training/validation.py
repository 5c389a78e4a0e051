"""Clips of the other split, animated with the weights as they are: a contact sheet and a few numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from portraitanim.config.animation import PARTS_BESIDE_AUDIO
from portraitanim.config.training import ClipConfig, ValidationConfig
from portraitanim.data.dataset import ClipDataset, ClipPiece
from portraitanim.errors import InputError
from portraitanim.face.drawing import draw_landmarks
from portraitanim.face.face_measures import mouth_openness
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.moving_portrait import MovingPortrait
from portraitanim.face.regions import mask_pyramid, region_masks
from portraitanim.media.image import save_image
from portraitanim.training.portrait_task import PortraitTask
from portraitanim.types import PortraitConditioning

"""What is drawn of the true landmarks: all but the mouth, which only the sound can move."""

_MAX_LAG_FRAMES = 2
_NUM_COLUMNS = 8


class Validation:
    """Animates the first frames of some test clips from their own first frame and sound.

    Args:
        task: networks and recipe; the same clips and noise are used every time.
        config: how often, and how much.

    Raises:
        InputError: the dataset has no test clip that is long enough.
    """

    def __init__(self, task: PortraitTask, config: ValidationConfig) -> None:
        self.task, self.config = task, config
        clips = ClipConfig(root=task.config.data.root, split="test", num_frames=config.num_frames, num_motion_frames=0)
        self.dataset = ClipDataset(clips)
        records = self.dataset.records[: config.num_clips]
        self.pieces = [
            ClipPiece(record=r, first_frame=0, num_frames=config.num_frames, num_motion_frames=0, reference_frame=0)
            for r in records
        ]

    @torch.no_grad()
    def run(self, folder: Path, step: int) -> dict[str, float]:
        """Write ``step-NNNNNNN.png``, true rows above made ones.

        Returns:
            ``psnr_db``; ``face_found``, the share of frames in which a face is found; and ``mouth_correlation`` of true
            and made mouth opening at the best lag of at most two frames, a mean over the clips where both move.
        """
        rows, found, correlations, errors = [], [], [], []
        with FaceMesh(thorough=False) as mesh:
            for piece in self.pieces:
                true, points = self.dataset.pictures(piece)[0], self.dataset.landmarks(piece)[0]
                made = self._animate(piece, true[0], points)
                faces = [mesh.search(frame).faces for frame in made]
                found += [bool(face) for face in faces]
                openness = np.array([mouth_openness(face[0].points) if face else np.nan for face in faces])
                correlations.append(best_correlation(np.array([mouth_openness(p) for p in points]), openness))
                errors.append(np.mean((true.astype(np.float64) - made) ** 2))
                columns = np.linspace(0, len(true) - 1, _NUM_COLUMNS).round().astype(int)
                rows += [np.concatenate(list(frames[columns]), axis=2) for frames in (true, made)]
        save_image(np.concatenate(rows, axis=1), folder / f"step-{step:07d}.png")
        known = [value for value in correlations if value is not None]
        return {
            "psnr_db": float(10 * np.log10(255**2 / max(np.mean(errors), 1e-9))),
            "face_found": float(np.mean(found)),
            **({"mouth_correlation": float(np.mean(known))} if known else {}),
        }

    def _animate(self, piece: ClipPiece, portrait: np.ndarray, points: np.ndarray) -> np.ndarray:
        """uint8 ``(frames, 3, size, size)``."""
        size, preset = piece.record.size_px, self.task.preset
        values = self.task.fixed_values(piece)
        condition_map, moved = values["condition_map"], None
        if preset.condition_map == "landmarks":
            drawn = [draw_landmarks(frame, (size, size), (size, size), PARTS_BESIDE_AUDIO) for frame in points]
            condition_map = torch.from_numpy(np.stack(drawn))
        if preset.moves_portrait:
            pictures = MovingPortrait(portrait, points[0]).moved(points, PARTS_BESIDE_AUDIO)
            moved = torch.from_numpy(pictures)[None].float() / 127.5 - 1
        levels = len(preset.network.denoising_unet.block_out_channels)
        regional = preset.network.denoising_unet.audio_attention_dim is not None
        pipeline = self.task.pipeline
        pipeline.set_progress_bar_config(disable=True)
        pieces = pipeline.stream(
            PortraitConditioning(
                reference_image=torch.from_numpy(portrait)[None].float() / 127.5 - 1,
                audio_windows=values["audio_windows"][None],
                condition_map=condition_map[None].float() / 255,
                moved_portrait=moved,
                identity_embedding=values["identity"][None] if "identity" in values else None,
                region_masks=mask_pyramid(region_masks(points[0], size, size), (size, size), levels)
                if regional
                else None,
            ),
            generator=torch.Generator().manual_seed(0),
        )
        frames = torch.cat(list(pieces), dim=1)[0]
        return (frames.float() * 255).round().to(torch.uint8).cpu().numpy()


def best_correlation(true: np.ndarray, made: np.ndarray) -> float | None:
    """Correlation at the best lag of at most two frames; ``None`` where a face is missing or one does not move."""
    if not np.isfinite(made).all():
        return None
    best: float | None = None
    for lag in range(-_MAX_LAG_FRAMES, _MAX_LAG_FRAMES + 1):
        first = true[max(lag, 0) : len(true) + min(lag, 0)]
        second = made[max(-lag, 0) : len(made) - max(lag, 0)]
        if first.std() > 1e-6 and second.std() > 1e-6:
            value = float(np.corrcoef(first, second)[0, 1])
            best = value if best is None else max(best, value)
    return best


def make_validation(task: PortraitTask, config: ValidationConfig) -> Validation | None:
    """The validation of a recipe, or ``None`` where it asks for none.

    Raises:
        InputError: it asks for some and the dataset has no test clips.
    """
    if config.every_steps == 0:
        return None
    try:
        return Validation(task, config)
    except InputError as error:
        raise InputError(f"{error} Or set validation.every_steps=0.") from None
