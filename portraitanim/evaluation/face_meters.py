"""What follows the face through both videos: landmarks, aligned upper faces, identity, expression coefficients."""

from __future__ import annotations

import math

import numpy as np
import torch

from portraitanim.errors import FaceError
from portraitanim.evaluation.aligned_face import align_upper_face
from portraitanim.evaluation.clip_result import SIDES
from portraitanim.evaluation.frame_meters import Values
from portraitanim.evaluation.identity_similarity import cosine_similarity
from portraitanim.evaluation.image_quality import ssim
from portraitanim.evaluation.judges import Judges
from portraitanim.evaluation.liveliness import count_blinks, eye_openness, head_motion
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.evaluation.stability import DriftMeter, FlickerMeter
from portraitanim.evaluation.talking import MOUTH_20, landmark_distance, mouth_opening, opening_agreement
from portraitanim.face.tracking import FaceFollower
from portraitanim.models.evaluators.face_reconstruction import EXPRESSION
from portraitanim.models.evaluators.reconstruction_input import cut_face, fit_face, five_points
from portraitanim.types import NUM_LANDMARKS

_BATCH_FACES = 16
_NO_FACE = np.full((NUM_LANDMARKS, 3), np.nan, np.float32)


class FaceMeter:
    """Everything that needs the landmarks of both videos.

    Of each frame the landmarks are kept (six kilobytes), and a few numbers.

    Args:
        protocol: what is measured.
        judges: has the face mesh, ArcFace and the reconstruction network.
    """

    def __init__(self, protocol: EvaluationProtocol, judges: Judges) -> None:
        self._protocol, self._judges = protocol, judges
        self._followers = {side: FaceFollower(judges.face_mesh, protocol.fps) for side in SIDES}
        self._landmarks: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
        self._flicker = {side: FlickerMeter() for side in SIDES}
        self._drift = {side: DriftMeter(protocol.fps) for side in SIDES}
        self._upper_face: list[float] = []
        self._faces: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
        self._expressions: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
        self._reference: np.ndarray | None = None
        self._likeness: list[float] = []
        self._num_without_identity = 0

    def add(self, generated: np.ndarray, true: np.ndarray) -> None:
        """See `portraitanim.evaluation.frame_meters.FrameMeter`."""
        aligned: list[np.ndarray | None] = []
        for side, frame in zip(SIDES, (generated, true), strict=True):
            face = self._followers[side].next(frame)
            points = _NO_FACE if face is None else face.points
            self._landmarks[side].append(points)
            upper = None if face is None else align_upper_face(frame, points)
            self._flicker[side].add(upper)
            self._drift[side].add(upper)
            aligned.append(upper)
            if face is not None and "e_fid" in self._protocol.metrics:
                self._add_expression(side, frame, points)
        if aligned[0] is not None and aligned[1] is not None:
            self._upper_face.append(ssim(aligned[0], aligned[1]))
        if "csim" in self._protocol.metrics:
            self._add_identity(generated, true)

    def landmarks(self, side: str) -> np.ndarray:
        """What was seen: float32 ``(frames, 478, 3)``, NaN without a face."""
        return np.stack(self._landmarks[side]) if self._landmarks[side] else np.zeros((0, NUM_LANDMARKS, 3), np.float32)

    def values(self) -> tuple[Values, Values]:
        """See `FrameMeter`."""
        tracks = [self.landmarks(side) for side in SIDES]
        found = self._pair_values(*tracks)
        own = [self._own_values(side, track) for side, track in zip(SIDES, tracks, strict=True)]
        found |= own[0]
        wanted = self._protocol.metrics
        return (
            {name: value for name, value in found.items() if name in wanted},
            {name: value for name, value in own[1].items() if name in wanted},
        )

    def features(self) -> dict[str, np.ndarray]:
        """Expression coefficients of the frames with a face."""
        for side in SIDES:
            self._reconstruct(side)
        return {f"e_fid.{side}": np.concatenate(self._expressions[side]) for side in SIDES if self._expressions[side]}

    def notes(self) -> list[str]:
        """Frames without a face."""
        notes = []
        for side in SIDES:
            track = self.landmarks(side)
            num_lost = int(np.count_nonzero(np.isnan(track[:, 0, 0])))
            if num_lost:
                notes.append(f"no face in {num_lost} of {len(track)} frames of the {side} video; they are left out")
        if self._num_without_identity:
            notes.append(f"{self._num_without_identity} faces could not be identified; left out of CSIM")
        return notes

    def _pair_values(self, generated: np.ndarray, true: np.ndarray) -> Values:
        fps = self._protocol.fps
        values: Values = {
            "lmd_mouth": landmark_distance(generated, true, MOUTH_20).percent,
            "lmd_face": landmark_distance(generated, true).percent,
            "upper_face_ssim": float(np.mean(self._upper_face)) if self._upper_face else None,
            "csim": float(np.mean(self._likeness)) if self._likeness else None,
        }
        if len(generated) >= 3:
            agreement = opening_agreement(mouth_opening(generated), mouth_opening(true), fps)
            values["mouth_correlation"] = agreement.correlation
            values["mouth_best_correlation"] = agreement.best_correlation
            # A mouth that agrees nowhere has no lag.
            values["mouth_lag"] = agreement.lag_seconds if agreement.best_correlation > 0 else None
        return {name: _number(value) for name, value in values.items()}

    def _own_values(self, side: str, track: np.ndarray) -> Values:
        motion, drift = head_motion(track), self._drift[side].drift
        values: Values = {
            "blinks": count_blinks(eye_openness(track), self._protocol.fps).per_minute,
            "head_pose": motion.pose_degrees,
            "expression": motion.expression_percent,
            "flicker": self._flicker[side].flicker,
            "drift_colour": None if drift is None else drift.colour_shift,
            "drift_sharpness": None if drift is None else drift.sharpness_ratio,
        }
        return {name: _number(value) for name, value in values.items()}

    def _add_expression(self, side: str, frame: np.ndarray, points: np.ndarray) -> None:
        fit = fit_face(five_points(points), frame.shape[2], frame.shape[1])
        self._faces[side].append(cut_face(frame, fit))
        if len(self._faces[side]) == _BATCH_FACES:
            self._reconstruct(side)

    def _reconstruct(self, side: str) -> None:
        if self._faces[side]:
            pictures = torch.from_numpy(np.stack(self._faces[side])).to(self._judges.device).float() / 255
            coefficients = self._judges.reconstruction(pictures)
            self._expressions[side].append(coefficients[:, EXPRESSION].cpu().numpy())
            self._faces[side].clear()

    def _add_identity(self, generated: np.ndarray, true: np.ndarray) -> None:
        number = len(self._landmarks["generated"]) - 1
        if self._reference is None:
            self._reference = self._embedding(true, self._landmarks["true"][-1])
        if number % self._protocol.identity_stride:
            return
        embedding = self._embedding(generated, self._landmarks["generated"][-1])
        if embedding is None or self._reference is None:
            self._num_without_identity += 1
        else:
            self._likeness.append(float(cosine_similarity(self._reference, embedding)))

    def _embedding(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray | None:
        if np.isnan(points[0, 0]):
            return None
        try:
            return self._judges.identity.encode(frame, points)
        except FaceError:
            return None


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
