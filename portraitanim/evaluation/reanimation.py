"""Animate true clips from their own first frame and sound, to be held against them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from portraitanim.config.animation import AnimationOptions
from portraitanim.config.schema import to_dict
from portraitanim.config.sweep import Drive
from portraitanim.errors import InputError, PortraitAnimError
from portraitanim.evaluation.clips import ClipPair
from portraitanim.evaluation.held_out import HeldOutClip
from portraitanim.media.files import whole_file
from portraitanim.media.image import save_image
from portraitanim.media.video import iter_video, probe_video
from portraitanim.pipelines.animator import Animator
from portraitanim.pipelines.animator_parts import OutputOptions
from portraitanim.progress import ProgressReporter, SilentProgress

logger = logging.getLogger(__name__)

_SETTINGS = "settings.json"


def reanimate(
    animator: Animator,
    clips: Sequence[HeldOutClip],
    output: Path,
    options: AnimationOptions,
    *,
    drive: Drive = "audio",
    progress: ProgressReporter | None = None,
) -> tuple[list[ClipPair], list[str]]:
    """Make one video per clip; those that were made the same way before are kept.

    Args:
        animator: the weights.
        clips: what to make again.
        output: folder for the videos.
        options: how.
        drive: the clip's sound, its landmarks, or both.
        progress: told each clip.

    Returns:
        The pairs that were made, a sentence on what made them, and one for each clip that was not made.

    Raises:
        InputError: not one could be made, or the folder holds videos that were made otherwise.
    """
    _require_same_settings(output, animator, options, drive)
    pairs, notes = [], []
    with (progress or SilentProgress()).task("Animating clips", len(clips)) as task:
        for clip in clips:
            made = output / f"{clip.name}.mp4"
            try:
                if not made.is_file():
                    _animate(animator, clip, made, options, drive)
                pairs.append(ClipPair(name=clip.name, generated=made, true=clip.video, audio=clip.audio))
            except PortraitAnimError as error:
                logger.warning("%s is not animated: %s", clip.name, error)
                notes.append(f"{clip.name} could not be animated: {error}")
            task.advance()
    if not pairs:
        raise InputError(f"None of the {len(clips)} clips could be animated; the first: {notes[0]}")
    weights = f"{animator.parts.name} (sha256 {(animator.parts.fingerprint or 'unknown')[:16]})"
    return pairs, [f"Animated by the weights {weights}.", *notes]


def _require_same_settings(output: Path, animator: Animator, options: AnimationOptions, drive: Drive) -> None:
    settings = {
        "weights": animator.parts.fingerprint or animator.parts.name,
        "drive": drive,
        "options": to_dict(options),
    }
    path = output / _SETTINGS
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != json.loads(json.dumps(settings)):
            raise InputError(
                f"{output} holds videos that were made with other weights or options. "
                "Remove it, or use another --output."
            )
    with whole_file(path) as partial:
        partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _animate(animator: Animator, clip: HeldOutClip, made: Path, options: AnimationOptions, drive: Drive) -> None:
    info = probe_video(clip.video)
    if info.width != info.height:
        raise InputError(
            f"{clip.video} is {info.width}x{info.height}; clips to be made again must be square. Prepare them first."
        )
    portrait = made.with_suffix(".png")
    save_image(next(iter_video(clip.video)).image, portrait)
    sound = clip.audio or clip.video
    animator.animate(
        portrait,
        sound if "audio" in drive else None,
        output=made,
        driving=clip.video if "landmarks" in drive else None,
        options=options,
        files=OutputOptions(overwrite=True),
    )
