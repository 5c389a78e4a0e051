"""Which clips are kept: what each score measures, and whether a clip keeps its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portraitanim.config.preparation import FilterConfig, PreparationConfig, limits

SOUND_SCORES = ("speech_fraction", "sync_correlation")

RULES: dict[str, str] = {
    "face_tracked_fraction": "longest stretch in which the face is seen in every frame, as a share of the scene",
    "seconds": "length of that stretch",
    "second_face_share": "size of the largest other face, in sizes of the main one",
    "track_jump": "largest move of the face between two frames, in sides of the face",
    "face_px": "median of the face's longer side, in pixels of the source",
    "face_share": "longer side of the face over all frames, in sides of the crop",
    "sharpness": "detail of 1-2 over detail of 2-4 pixels on a face of 130 pixels; median",
    "yaw_degrees": "turn of the head to a side; 95th percentile",
    "head_speed": "speed of the head, in sides of the face per second; 95th percentile",
    "head_travel": "box around all frames over the face itself, less one",
    "content_change": "largest change between two frames, as PySceneDetect measures it (0 to 255)",
    "camera_speed": "motion of the picture behind the person, in picture widths per second; root mean square",
    "mouth_motion": "standard deviation of the mouth's opening, in sides of the face",
    "speech_fraction": "share of the sound in which somebody speaks",
    "sync_correlation": "correlation of mouth opening and speech level at the best offset",
    "sync_offset_frames": "smallest offset that is about as good, in frames, whatever its sign; needs 4 s",
    "sync_confidence": "SyncNet's confidence (Sync-C), where its weights are installed; needs 2.6 s",
    "copy_distance": "one less the correlation of the mouth's motion with that of an earlier clip that looks alike",
}
"""Score → what it measures. The limit of score X is the field min_X or max_X of `FilterConfig`."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A limit that a clip does not keep.

    Attributes:
        score: name of the score.
        message: what was measured and what is needed.
    """

    score: str
    message: str


def judge(scores: Mapping[str, float], config: PreparationConfig, *, has_sound: bool) -> list[Failure]:
    """The limits that a clip does not keep, in the order of `RULES`.

    A score that could not be measured passes (a plain wall shows no camera motion), but not the scores of the sound of
    a face: where sound is needed, or there is some, it must be speech.

    Args:
        scores: what was measured, by name.
        config: the limits, and whether sound is needed.
        has_sound: whether the clip has a sound track.
    """
    if config.sound == "required" and not has_sound:
        return [Failure(score="speech_fraction", message="there is no sound track")]
    found = []
    for score, (limit, is_minimum) in limits_by_score(config.filters).items():
        if score not in scores:
            if score in SOUND_SCORES and has_sound and "mouth_motion" in scores:
                found.append(Failure(score=score, message="mouth and sound could not be compared"))
            continue
        value = scores[score]
        if value < limit if is_minimum else value > limit:
            need = "at least" if is_minimum else "at most"
            found.append(Failure(score=score, message=f"{score} is {value:.4g}, needs {need} {limit:g}"))
    if not found and not scores.get("face_tracked_fraction"):  # whatever the limits, there is nothing to crop
        found = [Failure(score="face_tracked_fraction", message="no face was seen")]
    return found


def limits_by_score(filters: FilterConfig) -> dict[str, tuple[float, bool]]:
    """Score → its limit and whether that is a minimum, for the limits that are on, in the order of `RULES`."""
    named = {name.removeprefix("min_").removeprefix("max_"): (name, value) for name, value in limits(filters).items()}
    return {score: (named[score][1], named[score][0].startswith("min_")) for score in RULES if score in named}
