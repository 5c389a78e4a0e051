"""How the whole face goes along when lips open, spread or pout, lids close and brows rise: measured, then replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from portraitanim.data.synthesis.driver_motion import DriverMotion, face_width
from portraitanim.face.landmark_groups import LEFT_EYELID_PAIRS, LIP_PAIRS, RIGHT_EYELID_PAIRS, RIGID_POINTS
from portraitanim.face.mesh_topology import mirror_points
from portraitanim.face.mouth_reader import close_lips, keep_apart, with_closed_lips
from portraitanim.face.transforms import fit_similarity

POUT_WIDTHS = 0.008
"""How far lips come forward that pout, in face widths."""

_RIDGE, _LEAST_VARIANCE = 0.002, 1e-8
_UPPER_LID, _LOWER_LID = np.array((*RIGHT_EYELID_PAIRS, *LEFT_EYELID_PAIRS)).T
_UPPER_LIP, _LOWER_LIP = np.array(LIP_PAIRS).T


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceMeasures:
    """What is told to the face, each ``(frames,)`` in face widths, 0 at rest.

    Attributes:
        opening: gap between the inner lips.
        width: change of the mouth's width.
        pout: lips forward.
        upper_lip: upper lip raised.
        corners: corners of the mouth raised.
        lids: change of the gap between the lids; the eye's own gap, negative, closes it.
        brows: brows raised.
    """

    opening: np.ndarray
    width: np.ndarray
    pout: np.ndarray
    upper_lip: np.ndarray
    corners: np.ndarray
    lids: np.ndarray
    brows: np.ndarray

    def table(self) -> np.ndarray:
        """``(frames, measures)``."""
        return np.stack([getattr(self, each.name) for each in fields(self)], axis=-1)


def measure(shapes: np.ndarray, neutral: np.ndarray) -> FaceMeasures:
    """Read the measures off shapes ``(frames, 478, 3)`` in face widths, against the neutral shape ``(478, 3)``."""

    def raw(points: np.ndarray) -> list[np.ndarray]:
        y, z = points[..., 1], points[..., 2]
        lips = y[..., _LOWER_LIP] - y[..., _UPPER_LIP]
        lids = y[..., _LOWER_LID] - y[..., _UPPER_LID]
        nose = y[..., 2]
        return [
            lips[..., [0, 1, 5]].mean(-1),
            points[..., 291, 0] - points[..., 61, 0],
            -(z[..., [0, 13, 14, 17]].mean(-1) - z[..., 2]),
            -(y[..., 0] - nose),
            -(y[..., [61, 291]].mean(-1) - nose),
            lids.mean(-1),
            -(y[..., [105, 334, 52, 282]].mean(-1) - y[..., [33, 133, 362, 263]].mean(-1)),
        ]

    values = [now - rest for now, rest in zip(raw(shapes), raw(neutral), strict=True)]
    return FaceMeasures(**{each.name: value for each, value in zip(fields(FaceMeasures), values, strict=True)})


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpressionBasis:
    """A neutral face and how each measure moves it.

    Attributes:
        neutral: ``(478, 3)``, one face width wide.
        modes: ``(measures, 478, 3)``: motion per unit of each measure, the others at rest.
        company: ``(2, 3)``: how much pout, raised upper lip and raised corners go with opening and width.
    """

    neutral: np.ndarray
    modes: np.ndarray
    company: np.ndarray

    @classmethod
    def fit(cls, drivers: Sequence[DriverMotion]) -> ExpressionBasis:
        """Regress the motion of all points on the measures, over all frames of all drivers (ridge regression)."""
        reference = drivers[0].neutral
        neutrals, motions, measures = [], [], []
        for driver in drivers:
            fit = fit_similarity(driver.neutral[list(RIGID_POINTS)], reference[list(RIGID_POINTS)])
            neutrals.append(fit.scale * driver.neutral @ fit.rotation.T + fit.translation)
            motions.append((driver.shapes - driver.neutral) @ fit.rotation.T * fit.scale)
            measures.append(measure(driver.shapes, driver.neutral).table() * fit.scale)
        neutral = np.mean(neutrals, axis=0)
        neutral = neutral / face_width(neutral)
        motion, told = np.concatenate(motions), np.concatenate(measures)
        gram = told.T @ told
        gram += np.diag(_RIDGE * np.diag(gram) + _LEAST_VARIANCE * len(told))
        modes = np.linalg.solve(gram, told.T @ motion.reshape(len(motion), -1))
        modes = modes.reshape(told.shape[1], *neutral.shape)
        # People talk a little to one side; all measures are of both sides, so the halves may be averaged.
        modes = (modes + mirror_points(modes, 0.0)) / 2
        neutral = close_lips((neutral + mirror_points(neutral, 0.0)) / 2, modes[0])
        company = np.linalg.lstsq(told[:, :2], told[:, 2:5], rcond=1e-6)[0]
        return cls(neutral=neutral, modes=modes, company=company)

    def with_closed_lips(self, points: np.ndarray) -> np.ndarray:
        """See `portraitanim.face.mouth_reader.with_closed_lips`."""
        return with_closed_lips(points, self.neutral, self.modes[0])

    def shapes(self, measures: FaceMeasures) -> np.ndarray:
        """The face ``(frames, 478, 3)`` that shows the measures; lips and lids never pass through each other."""
        shapes = self.neutral + np.einsum("tm,mnc->tnc", measures.table(), self.modes)
        for upper, lower in ((_UPPER_LIP, _LOWER_LIP), (_UPPER_LID, _LOWER_LID)):
            keep_apart(shapes, upper, lower)
        return shapes
