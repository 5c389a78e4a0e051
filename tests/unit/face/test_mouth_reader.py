from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from portraitanim.errors import DamagedWeightsError, ShapeError
from portraitanim.face.idle_motion import IdleMotion
from portraitanim.face.landmark_groups import LIP_PAIRS
from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.mouth_reader import MOUTH_READER, MouthReader, ReadMouth
from portraitanim.media.image import load_image
from tests.examples import PORTRAIT, ROOT

FPS = 25.0


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """Landmarks of the example portrait, which smiles with open lips."""
    with FaceMesh() as mesh:
        return mesh.search(load_image(PORTRAIT)).faces[0].points


@pytest.fixture(scope="module")
def reader() -> MouthReader:
    return MouthReader.load(ROOT / "weights" / "tiny" / MOUTH_READER)


def openings(points: np.ndarray) -> np.ndarray:
    """Largest gap of the inner lips, in face widths."""
    upper, lower = np.array(LIP_PAIRS).T
    width = np.linalg.norm(points[:, 454, :2] - points[:, 234, :2], axis=-1)
    return np.linalg.norm(points[:, lower, :2] - points[:, upper, :2], axis=-1).max(-1) / width


def test_mouth_is_shut_at_rest_and_opens_as_far_as_told(reader: MouthReader, portrait: np.ndarray) -> None:
    assert openings(portrait[None])[0] > 0.04
    told = np.zeros((4, 3))
    told[:, 0] = [0, 0.03, 0.06, 0.12]
    faces = ReadMouth(reader, portrait).faces(told)
    assert openings(faces)[0] < 0.002
    assert openings(faces)[1:] == pytest.approx(told[1:, 0], rel=0.5)
    assert (np.diff(openings(faces)) > 0.01).all()
    assert faces[3, 152, 1] > faces[0, 152, 1], "the chin goes down"
    eyes = [33, 133, 362, 263]
    moved = np.abs(faces[3, eyes, :2] - portrait[eyes, :2]).max()
    assert moved < 0.02 * np.linalg.norm(portrait[454, :2] - portrait[234, :2])


def test_openings_and_pouts_are_never_negative(reader: MouthReader) -> None:
    tokens = np.random.default_rng(0).normal(0, 3, (50, len(reader.weight)))
    opening, _, pout = reader.measures(tokens).T
    assert opening.min() == 0
    assert opening.max() > 0
    assert (pout >= 0).all()
    assert (pout <= 1).all()
    with pytest.raises(ShapeError, match="features"):
        reader.measures(tokens[:, :-1])


def test_written_reader_reads_the_same(reader: MouthReader, tmp_path: Path) -> None:
    reader.save(tmp_path / MOUTH_READER)
    again = MouthReader.load(tmp_path / MOUTH_READER)
    for name in ("weight", "bias", "neutral", "modes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(reader, name))


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / MOUTH_READER
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DamagedWeightsError, match=MOUTH_READER):
        MouthReader.load(path)


def test_moving_mouth_fades_in_from_the_picture(reader: MouthReader, portrait: np.ndarray) -> None:
    class Shut:
        def faces(self, frames: range) -> np.ndarray:
            return ReadMouth(reader, portrait).faces(np.zeros((len(frames), 3)))

    points = IdleMotion(portrait, FPS, seed=1, mouth=Shut()).landmarks(range(30))
    np.testing.assert_allclose(points[0], portrait[:, :2], atol=1e-3)
    assert (np.diff(openings(points)[:6]) < 0).all()
    assert openings(points)[6:].max() < 0.005
