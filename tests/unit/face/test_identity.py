from __future__ import annotations

import logging
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from portraitanim.checkpoints.registry import REGISTRY
from portraitanim.errors import DamagedWeightsError, FaceError, InputError, MissingWeightsError, ShapeError
from portraitanim.face.identity import DETECTOR_FILE, PACK_NAME, RECOGNISER_FILE, IdentityEncoder
from portraitanim.face.landmark_groups import LEFT_PUPIL, NOSE_TIP_POINT, RIGHT_PUPIL
from tests.onnx_packs import MARK_HALF_PX, MARK_KPS, write_antelope_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_antelope_pack(tmp_path_factory.mktemp("pack") / "antelopev2")


@pytest.fixture(scope="module")
def encoder(pack: Path) -> IdentityEncoder:
    return IdentityEncoder.load(pack)


def picture(*marks: tuple[int, int]) -> np.ndarray:
    """Grey waves of 640 pixels with a red cell at each mark, where the pack's detector sees a face."""
    y, x = np.mgrid[0:640, 0:640] / 640
    waves = [120 + 60 * np.sin(9 * x + 4 * y + phase) for phase in (0, 0.3, 0.6)]
    image = np.stack(waves).astype(np.uint8)
    for column, row in marks:
        image[:, row : row + 8, column : column + 8] = np.array([255, 0, 0], np.uint8)[:, None, None]
    return image


def box_around(mark: tuple[int, int], half_px: float = MARK_HALF_PX) -> np.ndarray:
    return np.array([mark[0] - half_px, mark[1] - half_px, mark[0] + half_px, mark[1] + half_px])


def published(pack: Path, image: np.ndarray, mark: tuple[int, int]) -> np.ndarray:
    """The vector as InsightFace's own alignment and network calls give it, without our code."""
    import onnxruntime
    from insightface.utils.face_align import norm_crop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skimage announces a change of its own
        crop = norm_crop(np.ascontiguousarray(image[::-1].transpose(1, 2, 0)), MARK_KPS + np.array(mark, np.float32))
    blob = cv2.dnn.blobFromImages([crop], 1 / 127.5, (112, 112), (127.5,) * 3, swapRB=True)
    session = onnxruntime.InferenceSession(str(pack / RECOGNISER_FILE), providers=["CPUExecutionProvider"])
    return session.run(None, {"input.1": blob})[0][0]


def test_vector_is_the_raw_one_of_the_published_code(pack: Path, encoder: IdentityEncoder) -> None:
    image = picture((320, 240))
    vector = encoder.encode(image)
    expected = published(pack, image, (320, 240))
    assert vector.shape == (512,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) > 2  # not brought to unit length
    # The two alignments differ in the last bits, so single pixels of the crop may differ by one level.
    np.testing.assert_allclose(vector, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("chosen", [(120, 120), (440, 400)])
def test_chosen_face_of_two_is_embedded(pack: Path, encoder: IdentityEncoder, chosen: tuple[int, int]) -> None:
    image = picture((120, 120), (440, 400))
    vector = encoder.encode(image, box_around(chosen, 50))
    expected = published(pack, image, chosen)
    np.testing.assert_allclose(vector, expected, atol=0.02 * np.abs(expected).max())


def test_large_picture_is_embedded_at_its_own_resolution(pack: Path, encoder: IdentityEncoder) -> None:
    small = picture((320, 240))
    large = np.repeat(np.repeat(small, 2, axis=1), 2, axis=2)
    near, same = encoder.encode(large), encoder.encode(small)
    assert float(near @ same / np.linalg.norm(near) / np.linalg.norm(same)) > 0.99


def test_landmarks_take_the_place_of_a_face_that_the_detector_misses(
    encoder: IdentityEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    points = np.random.default_rng(0).uniform(-60, 60, (478, 3))
    points[[RIGHT_PUPIL, LEFT_PUPIL, NOSE_TIP_POINT, 61, 291], :2] = MARK_KPS
    points[:, :2] += (320, 240)
    marked = picture((320, 240))
    found = encoder.encode(marked, points)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        vector = encoder.encode(picture((40, 40)), points)
    assert "none of which is the chosen one" in caplog.text
    # The same place of the same picture, but for the mark itself.
    assert float(found @ vector / np.linalg.norm(found) / np.linalg.norm(vector)) > 0.9


def test_no_face_is_an_error_with_advice(encoder: IdentityEncoder) -> None:
    with pytest.raises(FaceError, match="finds no face in this picture"):
        encoder.encode(picture())
    with pytest.raises(FaceError, match="finds 1 faces, none of which is the chosen one"):
        encoder.encode(picture((120, 120)), box_around((440, 400)))


def test_missing_pack_names_the_command_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="portraitanim weights pull antelopev2") as caught:
        IdentityEncoder.load(tmp_path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", [DETECTOR_FILE, RECOGNISER_FILE])
def test_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    write_antelope_pack(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300])
    with pytest.raises(DamagedWeightsError, match=f"{name} is not a network"):
        IdentityEncoder.load(tmp_path)


@pytest.mark.parametrize(("name", "other"), [(DETECTOR_FILE, RECOGNISER_FILE), (RECOGNISER_FILE, DETECTOR_FILE)])
def test_network_of_another_kind_is_refused(tmp_path: Path, name: str, other: str) -> None:
    write_antelope_pack(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / other).read_bytes())
    with pytest.raises(DamagedWeightsError, match="not from the antelopev2 pack"):
        IdentityEncoder.load(tmp_path)


def test_device_that_onnxruntime_lacks_is_refused(pack: Path) -> None:
    with pytest.raises(InputError, match="got device 'warp'"):
        IdentityEncoder.load(pack, device="warp")


def test_nothing_is_printed(pack: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IdentityEncoder.load(pack).encode(picture((320, 240)))
    assert capfd.readouterr() == ("", "")


def test_other_shapes_are_refused(encoder: IdentityEncoder) -> None:
    with pytest.raises(ShapeError, match="A picture must be uint8"):
        encoder.encode(np.zeros((640, 640, 3), np.uint8))
    with pytest.raises(ShapeError, match=r"landmarks \(478, 2 or 3\) or a box"):
        encoder.encode(picture((320, 240)), np.zeros((5, 2)))


def test_registry_pulls_the_files_that_are_loaded() -> None:
    names = {Path(path).name for path in REGISTRY[PACK_NAME].files}
    assert names == {DETECTOR_FILE, RECOGNISER_FILE}
