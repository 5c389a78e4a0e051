from __future__ import annotations

import numpy as np
import pytest

from portraitanim.data.synthesis.portrait_bank import BankPortrait, cut_portrait
from portraitanim.data.synthesis.talking_tracks import TalkingTrack
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.person_mask import PersonMask
from portraitanim.media.image import load_image
from tests.examples import PORTRAIT

LOWER_LIP_AND_CHIN = (14, 17, 87, 84, 178, 181, 88, 91, 95, 146, 317, 314, 402, 405, 318, 321, 324, 375, 152, 175, 199)
UPPER_LIDS = (159, 158, 157, 173, 160, 161, 246, 386, 385, 384, 398, 387, 388, 466)


@pytest.fixture(scope="session")
def portrait() -> BankPortrait:
    with FaceMesh() as mesh, PersonMask() as person_mask:
        return cut_portrait(load_image(PORTRAIT), "astronaut", mesh, person_mask, 192, 0.5)


@pytest.fixture(scope="session")
def track(portrait: BankPortrait) -> TalkingTrack:
    """The portrait's own points, talking in a plain rhythm: lips, lids and corners move, the head turns."""
    num_frames = 100
    seconds = np.arange(num_frames) / 25
    width = np.linalg.norm(portrait.points[454] - portrait.points[234])
    points = np.repeat(portrait.points[None].astype(np.float64), num_frames, axis=0)
    gap = 0.10 * width * np.maximum(np.sin(2 * np.pi * 1.5 * seconds), 0)
    points[:, list(LOWER_LIP_AND_CHIN), 1] += gap[:, None]
    blink = 0.05 * width * np.exp(-(((seconds % 1.7 - 0.8) / 0.08) ** 2))
    points[:, list(UPPER_LIDS), 1] += blink[:, None]
    wider = 0.03 * width * np.sin(2 * np.pi * 0.9 * seconds)
    points[:, 291, 0] += wider
    points[:, 61, 0] -= wider
    turn = np.radians(6 * np.sin(2 * np.pi * 0.4 * seconds))
    middle = portrait.points[[33, 263]].mean(0)
    x, z = points[..., 0] - middle[0], points[..., 2] - middle[2]
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    points[..., 0], points[..., 2] = middle[0] + cos * x + sin * z, middle[2] - sin * x + cos * z
    sound = np.repeat(gap / gap.max(), 640) * np.sin(np.arange(num_frames * 640) * 0.08)
    return TalkingTrack(name="plain", points=points.astype(np.float32), sound=(0.4 * sound).astype(np.float32))
