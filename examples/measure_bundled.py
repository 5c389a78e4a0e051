"""Measure how well small weights talk, on portraits, speech and motion that were held out from their training.

    python examples/measure_bundled.py --media SHARED_MEDIA --output results.json [--weights tiny]

``SHARED_MEDIA`` has the folders portraits, speech and talking. Prints the results as well. Each number is measured on
videos that are made here.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from portraitanim import AnimationOptions, open_animator
from portraitanim.config.animation import FACE_PARTS
from portraitanim.data.synthesis.clip_motion import MOUTH_LATE_FRAMES
from portraitanim.data.synthesis.portrait_bank import HELD_OUT_PORTRAITS
from portraitanim.data.synthesis.talking_tracks import SOUND_RATE_HZ
from portraitanim.evaluation.aligned_face import upper_face_ssim
from portraitanim.evaluation.liveliness import count_blinks, eye_openness, head_motion
from portraitanim.evaluation.talking import has_face, landmark_distance, mouth_opening, opening_agreement
from portraitanim.face.alignment import FaceCrop
from portraitanim.face.landmarks import FaceMesh
from portraitanim.media.audio import load_audio, save_audio, to_mono
from portraitanim.media.contact_sheet import contact_sheet, spread_indices
from portraitanim.media.image import load_image, save_image
from portraitanim.media.video import iter_video
from portraitanim.pipelines.animation_inputs import InputReader
from portraitanim.pipelines.animator import Animator
from portraitanim.progress import SilentProgress
from portraitanim.types import AudioTrack

SPEECH = ("hallo_1.wav", "echomimic_en_girl.wav")
"""Recordings that no training clip used."""

TALKING = ("liveportrait_d20.mp4", "liveportrait_d10.mp4", "liveportrait_d6.mp4", "liveportrait_d12.mp4")
"""Talking videos whose sound no training heard. In d12 somebody sings, in d6 somebody mostly pulls faces."""

DRIVING = ("liveportrait_d20.mp4", "liveportrait_d12.mp4")
"""Talking videos whose motion no training saw; the head of d12 swings widely."""

NUM_SOUND_PORTRAITS = 3
"""On so many portraits silence and lip weights are compared; the first smiles with open lips."""

LONG_SECONDS = 20.0

FPS = 25.0
MAX_LAG_SECONDS = 2 / FPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON file with the results")
    parser.add_argument("--weights", default="tiny")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each video")
    parser.add_argument("--portraits", type=int, default=len(HELD_OUT_PORTRAITS), help="how many of the held-out ones")
    parser.add_argument("--sheet", type=Path, help="contact sheet of the talking portraits (PNG)")
    arguments = parser.parse_args()
    with FaceMesh() as mesh, tempfile.TemporaryDirectory() as scratch:
        animator = open_animator(arguments.weights)
        results = Measurement(animator, mesh, arguments.media, Path(scratch), arguments.seconds)
        report = results.all(HELD_OUT_PORTRAITS[: arguments.portraits], arguments.sheet)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


class Measurement:
    """Videos of one set of weights, and numbers about them; ``scratch`` is a folder for what the videos are made of."""

    def __init__(self, animator: Animator, mesh: FaceMesh, media: Path, scratch: Path, seconds: float) -> None:
        self.animator, self.mesh, self.media, self.scratch, self.seconds = animator, mesh, media, scratch, seconds

    def all(self, names: tuple[str, ...], sheet: Path | None) -> dict[str, Any]:
        """Every measurement, as plain data."""
        portraits = [next((self.media / "portraits").glob(f"{Path(name).stem}.*")) for name in names]
        return {
            "weights": self.animator.parts.name,
            "weights_sha256": self.animator.parts.fingerprint,
            "seconds_per_video": self.seconds,
            "portraits": [path.name for path in portraits],
            "speech": list(SPEECH),
            "talking": self.talking(portraits, sheet),
            "sound": {path.name: self.sound(path) for path in portraits[:NUM_SOUND_PORTRAITS]},
            "reanimated": self.reanimated_clips(),
            "landmarks": {name: self.landmarks(portraits[1], name) for name in DRIVING},
            "long": self.long(portraits[0]),
        }

    def talking(self, portraits: list[Path], sheet: Path | None) -> dict[str, float]:
        """Faces found, identity, blinks and head motion of held-out portraits that speak."""
        found, identity, blinks, turns, openings, shown = [], [], [], [], [], []
        for number, path in enumerate(portraits):
            frames = self.frames(path, self.media / "speech" / SPEECH[number % len(SPEECH)])
            points = self.track(frames)
            seen = has_face(points)
            found.append(seen.mean())
            picture, own = self.crop(path)
            similarity = upper_face_ssim(
                iter(frames), points, iter([picture] * len(frames)), np.repeat(own[None], len(frames), 0)
            )
            identity.append(np.nanmean(similarity[-len(similarity) // 4 :]))
            blinks.append(count_blinks(eye_openness(points), FPS).per_minute)
            turns.append(head_motion(points).pose_degrees)
            openings.append(np.nanstd(mouth_opening(points)))
            shown += [frames[index] for index in spread_indices(len(frames), 8)]
        if sheet is not None:
            save_image(contact_sheet(shown, columns=8), sheet)
        return {
            "face_found_share": round(float(np.mean(found)), 4),
            "upper_face_ssim_last_quarter": round(float(np.mean(identity)), 4),
            "blinks_per_minute": round(float(np.mean(blinks)), 2),
            "head_degrees": round(float(np.mean(turns)), 3),
            "mouth_opening_std": round(float(np.mean(openings)), 4),
        }

    def sound(self, portrait: Path) -> dict[str, float]:
        """What silence, lip weights and another sound do to the mouth and to the rest."""
        silence = self.scratch / "silence.wav"
        save_audio(
            AudioTrack(
                samples=np.zeros((1, round(self.seconds * SOUND_RATE_HZ)), np.float32), sample_rate_hz=SOUND_RATE_HZ
            ),
            silence,
        )
        speech = [self.media / "speech" / name for name in SPEECH]
        openings = {
            "silent": self.opening(portrait, silence),
            "lip_weight_0": self.opening(portrait, speech[0], lip_weight=0.0),
            "lip_weight_1": self.opening(portrait, speech[0]),
            "lip_weight_1.5": self.opening(portrait, speech[0], lip_weight=1.5),
        }
        return {f"mouth_opening_std_{name}": round(float(np.nanstd(value)), 4) for name, value in openings.items()} | {
            f"mouth_opening_mean_{name}": round(float(np.nanmean(value)), 4) for name, value in openings.items()
        }

    def reanimated_clips(self) -> dict[str, Any]:
        """All of the real talking clips, whole."""
        clips = {name: self.reanimated(name) for name in TALKING}
        best = [clip["best_correlation_within_2_frames"] for clip in clips.values()]
        return {"clips": clips, "mean_of_best_correlations": round(float(np.mean(best)), 4)}

    def reanimated(self, name: str) -> dict[str, float]:
        """A real talking clip, made again from its first frame and its sound.

        In some of the files the sound is not in time with the lips; it is put there first.
        """
        video = self.media / "talking" / name
        frames = [frame.image for frame in iter_video(video, FPS)]
        first, sound = self.scratch / f"{name}.png", self.scratch / f"{name}.wav"
        save_image(frames[0], first)
        late = round(MOUTH_LATE_FRAMES.get(video.stem, 0.0) / FPS * SOUND_RATE_HZ)
        samples = to_mono(load_audio(video, SOUND_RATE_HZ)).samples
        samples = np.pad(samples, ((0, 0), (max(late, 0), max(-late, 0))))[:, max(-late, 0) :]
        save_audio(AudioTrack(samples=samples, sample_rate_hz=SOUND_RATE_HZ), sound)
        true = mouth_opening(self.track(frames))
        made = mouth_opening(self.track(self.frames(first, sound, duration_seconds=len(true) / FPS)))[: len(true)]
        agreement = opening_agreement(made, true[: len(made)], FPS, MAX_LAG_SECONDS)
        return {
            "seconds": len(made) / FPS,
            "correlation": round(agreement.correlation, 4),
            "best_correlation_within_2_frames": round(agreement.best_correlation, 4),
            "lag_frames": agreement.lag_frames,
        }

    def landmarks(self, portrait: Path, driving: str) -> dict[str, float]:
        """Landmark mode: how far the made face is from the landmarks that drove it."""
        animator = self.animator
        parts = tuple(part for part in FACE_PARTS if part in animator.preset.landmark_parts)
        options = AnimationOptions(duration_seconds=self.seconds, parts=parts)
        source = self.media / "talking" / driving
        with InputReader(animator.parts, animator.plan(None, source, options), options, SilentProgress()) as reader:
            conditioning = reader.read(portrait, None, source).conditioning
            assert conditioning.motion is not None
            wanted = conditioning.motion.landmarks(range(conditioning.num_frames))
        made = self.track(list(animator.stream(portrait, driving=source, options=options)))
        target = np.concatenate([wanted, np.zeros((*wanted.shape[:2], 1), wanted.dtype)], axis=-1)[: len(made)]
        error = np.linalg.norm(made[..., :2] - target[..., :2], axis=-1).mean(1) / np.ptp(target[..., 0], axis=1)
        flat = made.copy()
        flat[..., 2] = 0
        return {
            "error_share_of_face_width": round(float(np.nanmean(error)), 4),
            "shape_error_percent_of_eye_distance": round(landmark_distance(flat, target).percent, 3),
        }

    def long(self, portrait: Path) -> dict[str, float]:
        """A longer video: does the face stay who it is, and the background where it is?"""
        options = AnimationOptions(duration_seconds=LONG_SECONDS)
        sound = self.scratch / "long.wav"
        pieces = [to_mono(load_audio(self.media / "speech" / name, SOUND_RATE_HZ)).samples for name in SPEECH]
        samples = np.tile(np.concatenate(pieces, axis=1), 4)[:, : round(LONG_SECONDS * SOUND_RATE_HZ)]
        save_audio(AudioTrack(samples=samples, sample_rate_hz=SOUND_RATE_HZ), sound)
        frames = list(self.animator.stream(portrait, sound, options=options))
        picture, own = self.crop(portrait)
        last = frames[-25:]
        similarity = upper_face_ssim(
            iter(last), self.track(last), iter([picture] * len(last)), np.repeat(own[None], len(last), 0)
        )
        corner = np.stack(frames)[:, :, :32, :32].astype(np.float64)
        return {
            "seconds": LONG_SECONDS,
            "upper_face_ssim_last_second": round(float(np.nanmean(similarity)), 4),
            "background_step_of_255": round(float(np.abs(np.diff(corner, axis=0)).mean()), 3),
            "background_drift_of_255": round(float(np.abs(corner[-25:].mean(0) - corner[:25].mean(0)).mean()), 3),
        }

    def opening(self, portrait: Path, sound: Path, **chosen: Any) -> np.ndarray:
        """Mouth opening of a video over time."""
        return mouth_opening(self.track(self.frames(portrait, sound, **chosen)))

    def frames(self, portrait: Path, sound: Path, **chosen: Any) -> list[np.ndarray]:
        """The frames of a video driven by sound."""
        print(f"{portrait.name}, {sound.name} {chosen or ''}", file=sys.stderr)
        options = AnimationOptions(**{"duration_seconds": self.seconds, **chosen})
        return list(self.animator.stream(portrait, sound, options=options))

    def crop(self, portrait: Path) -> tuple[np.ndarray, np.ndarray]:
        """The portrait as the networks see it, and its landmarks."""
        picture = load_image(portrait)
        points = self.mesh.search(picture).require(portrait.name)[0].points
        crop = FaceCrop.around(points, self.animator.preset.sampling.size_px)
        return crop.apply(picture), crop.points(points)

    def track(self, frames: list[np.ndarray]) -> np.ndarray:
        """Landmarks ``(frames, 478, 3)``, NaN where no face is found."""
        missing = np.full((478, 3), np.nan, np.float32)
        found = [self.mesh.search(frame).faces for frame in frames]
        return np.stack([faces[0].points if faces else missing for faces in found])


if __name__ == "__main__":
    main()
