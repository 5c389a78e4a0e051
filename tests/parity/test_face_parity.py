"""Masks, crops, landmark drawings and motion synchronization against the numbers of the published code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from portraitanim.face import landmark_groups, regions
from portraitanim.face.drawing import PARTS, PUBLISHED_PARTS, draw_landmarks
from portraitanim.face.face_crop import detected_face_crop, face_mask_map
from portraitanim.face.geometry import FaceGeometry, project_to_pixels
from portraitanim.face.published_motion_sync import (
    mesh_with_affine_irises,
    part_affines,
    smoothed_shapes,
    synchronize_published,
)
from portraitanim.types import REGION_NAMES
from tests.goldens import Golden, load_json

MASKS = "io_masks_wav2vec.safetensors"
# Hallo calls the pose mask "background" or "full", the expression mask "face".
PUBLISHED_REGIONS = {"background": "pose", "face": "expression", "lip": "lip"}
# EchoMimic spells the mouth "mouse" and the brows "eyebow".
PUBLISHED_PARTS_OF_SYNC = {
    "mouse": "mouth",
    "left_eyebow": "left_eyebrow",
    "right_eyebow": "right_eyebrow",
}
PAIRS = [("a", "d"), ("b", "d"), ("b", "a")]


def masks_golden() -> Golden:
    return Golden("hallo", MASKS)


def landmarks_of(case: str) -> tuple[np.ndarray, int, int]:
    golden = masks_golden()
    height, width = golden[f"{case}.height_width"].tolist()
    return golden[f"{case}.landmarks_px"].numpy(), height, width


@pytest.mark.parametrize("case", ["sq", "edge"])
def test_boxes_of_face_and_lips(case: str) -> None:
    golden = masks_golden()
    points, height, width = landmarks_of(case)
    assert list(regions.face_box(points, height, width)) == golden[f"{case}.face_mask"].tolist()
    assert list(regions.lip_box(points, height, width)) == golden[f"{case}.lip_mask"].tolist()


@pytest.mark.parametrize("case", ["sq", "edge"])
def test_blurred_face_box(case: str) -> None:
    points, height, width = landmarks_of(case)
    box = regions.face_box(points, height, width)
    blurred = regions.soft_mask(box, height, width, regions.FACE_BLUR_KERNEL)
    assert np.array_equal(blurred, masks_golden()[f"{case}.face_mask_blur"].numpy())


@pytest.mark.parametrize("case", ["sq", "edge"])
@pytest.mark.parametrize("published", list(PUBLISHED_REGIONS))
def test_region_masks(case: str, published: str) -> None:
    masks = regions.region_masks(*landmarks_of(case))
    ours = masks[REGION_NAMES.index(PUBLISHED_REGIONS[published])]
    assert np.array_equal(ours, masks_golden()[f"{case}.sep_{published}"].numpy())


@pytest.mark.parametrize("case", ["sq", "edge"])
@pytest.mark.parametrize("published", list(PUBLISHED_REGIONS))
def test_masks_at_every_depth(case: str, published: str) -> None:
    golden = masks_golden()
    masks = regions.region_masks(*landmarks_of(case))
    names = golden.matching(rf"{case}\.sep_{published}\.level(\d)\.img(\d+)")
    assert names, "the goldens hold pyramids"
    for match in names:
        size = int(match[2])
        level = regions.mask_pyramid(masks, (size, size)).at(int(match[1]))
        ours = level[0, 0, REGION_NAMES.index(PUBLISHED_REGIONS[published])]
        # The division by 255 is the only float.
        torch.testing.assert_close(ours[None], golden[match.string], atol=1e-7, rtol=0)


@pytest.mark.parametrize("case", ["sq", "edge"])
def test_masks_of_a_training_clip(case: str) -> None:
    golden = masks_golden()
    _, height, width = landmarks_of(case)
    frames = list(golden[f"{case}.train.frames_landmarks"].numpy())
    faces = regions.union_box([regions.face_box(points, height, width, 1.0) for points in frames])
    lips = regions.union_box([regions.lip_box(points, height, width, 1.0) for points in frames])
    assert list(faces) == golden[f"{case}.train.union_face"].tolist()
    assert list(lips) == golden[f"{case}.train.union_lip"].tolist()
    pose, expression, lip = regions.training_region_masks(frames, height, width)
    assert np.array_equal(pose, golden[f"{case}.train.sep_pose_float"].numpy())
    assert np.array_equal(expression, golden[f"{case}.train.sep_face"].numpy())
    assert np.array_equal(lip, golden[f"{case}.train.sep_lip"].numpy())


def test_masks_and_crops_of_detected_faces() -> None:
    """From the published boxes on; which box a detector finds is the detector's business."""
    for name, facts in load_json("echomimic", "motion/face_crop.json")["images"].items():
        height, width = facts["hw"]
        crop = detected_face_crop(facts["boxes"][0], height, width)
        left, top, right, bottom = facts["int_box"]
        assert crop.face == (top, bottom, left, right), name
        # Published rows may end below the picture, where slicing ends them as we do.
        (first_row, end_row), (first_column, end_column) = facts["mask_rows"], facts["mask_cols"]
        assert crop.mask == (first_row, min(end_row, height), first_column, min(end_column, width)), name
        assert [crop.rect.left, crop.rect.top, crop.rect.right, crop.rect.bottom] == facts["crop_rect"], name
        square = crop.square
        assert [square.left, square.top, square.right, square.bottom] == facts["square"], name
        mask = face_mask_map(crop, height, width, (512, 512))[0]
        rows, columns = np.nonzero(mask)
        assert [columns.min(), rows.min(), columns.max(), rows.max()] == facts["mask512_bbox_xyxy"], name
        assert sorted(np.unique(mask).tolist()) == facts["mask512_values"], name


def drawn_points(name: str) -> np.ndarray:
    """The landmarks of a golden drawing, in pixels of a 512×512 canvas."""
    if match := re.match(r"pkl(\d+)_", name):
        return Golden("echomimic", "motion/pose_pkl.npz")[f"pkl{match[1]}"][:, :2]
    if match := re.match(r"sync_a_to_d_(\d+)", name):
        return Golden("echomimic", "motion/landmarks_sync.npz")["sync_a_to_d_part"][int(match[1])]
    # Normalised coordinates, which MediaPipe's visualiser reads as they are.
    return Golden("echomimic", "motion/landmarks_in.npz")["drv_a_lmks"][0][:, :2].astype(np.float64) * 512


def map_names() -> list[str]:
    try:
        return sorted(Golden("echomimic", "motion/landmark_maps.npz"))
    except pytest.skip.Exception:
        return ["absent"]


@pytest.mark.parametrize("name", map_names())
def test_landmark_drawings(name: str) -> None:
    expected = Golden("echomimic", "motion/landmark_maps.npz")[name].transpose(2, 0, 1)
    parts = list(PUBLISHED_PARTS) + [part for part in ("mouth", "iris") if part in name]
    parts = [next(known for known in PARTS if known.startswith(part[:4])) for part in parts]
    points, (height, width) = drawn_points(name), expected.shape[1:]
    if "_scaled_" in name:
        points = points * (width / 512, height / 512) if "384" in name else points * (width / 512)
    drawing = draw_landmarks(points, (512, 512), (height, width), parts, published=True)
    assert np.array_equal(drawing, expected)
    assert (
        np.count_nonzero(drawing.any(0)) == load_json("echomimic", "motion/motion_facts.json")["draw_nonzero_px"][name]
    )


def test_parts_are_the_published_groups() -> None:
    facts = load_json("echomimic", "motion/motion_facts.json")
    for published, points in facts["sync_groups"].items():
        ours = landmark_groups.SYNC_PARTS[PUBLISHED_PARTS_OF_SYNC.get(published, published)]
        assert sorted(ours) == sorted(points)
    assert list(landmark_groups.EYES) == facts["eye_idx_used_for_iris"]


def geometry(name: str) -> FaceGeometry:
    """A driver (``drv_a``) or portrait (``ref_d``) of the goldens."""
    golden = Golden("echomimic", "motion/landmarks_in.npz")
    fields: list[Any] = [golden[f"{name}_{field}"] for field in ("lmks", "lmks3d", "trans_mat")]
    if fields[0].ndim == 2:
        fields = [field[None] for field in fields]
    return FaceGeometry(landmarks=fields[0], mesh_cm=fields[1], head_pose=fields[2], height=512, width=512)


# Float64 throughout, but for two constants that the published code keeps in float32 (pixels of 512).
PIXELS = 1e-4


@pytest.mark.parametrize(("driver", "portrait"), PAIRS)
@pytest.mark.parametrize("parts", [True, False])
def test_published_motion_synchronization(driver: str, portrait: str, parts: bool) -> None:
    expected = Golden("echomimic", "motion/landmarks_sync.npz")[
        f"sync_{driver}_to_{portrait}_{'part' if parts else 'nopart'}"
    ]
    ours = synchronize_published(geometry(f"drv_{driver}"), geometry(f"ref_{portrait}"), parts=parts)
    assert np.abs(ours - expected).max() <= PIXELS


def test_intermediates_of_motion_synchronization() -> None:
    golden = Golden("echomimic", "motion/landmarks_sync.npz")
    driver, portrait = mesh_with_affine_irises(geometry("drv_a")), mesh_with_affine_irises(geometry("ref_d"))[0]
    np.testing.assert_allclose(portrait, golden["ref_lmks3d_478"], atol=1e-6)
    np.testing.assert_allclose(driver.mean(0), golden["drv_mean_lmks3d_478"], atol=1e-6)
    np.testing.assert_allclose(smoothed_shapes(driver), golden["drv_smoothed_lmks3d_478"], atol=1e-6)
    affines = part_affines(driver.mean(0), portrait)
    for match in golden.matching(r"affine_(.+)"):
        ours = affines[PUBLISHED_PARTS_OF_SYNC.get(match[1], match[1])]
        # Nearly flat parts: the solution is defined to about the condition number (283) times the rounding.
        np.testing.assert_allclose(ours, golden[match.string], atol=1e-6)


@pytest.mark.parametrize("name", ["ref_a", "ref_b", "ref_c", "ref_d", "ref_e", "ref_pose_d", "drv_a", "drv_b"])
def test_metric_mesh_projects_onto_the_detected_landmarks(name: str) -> None:
    """The camera that we assume is the camera the goldens' detector assumes."""
    face = geometry(name)
    square = name.startswith("drv") or name == "ref_pose_d"
    height, width = (512, 512)
    if not square:
        refs = load_json("echomimic", "motion/motion_facts.json")["refs"]
        height, width = refs[name.removeprefix("ref_")]["image_hw"]
    pixels = project_to_pixels(face.mesh_cm.astype(np.float64), face.head_pose.astype(np.float64), height, width)
    expected = face.landmarks[:, :468, :2].astype(np.float64) * (width, height)
    # A thousandth of the picture: float32 landmarks, and pictures up to 2,840 pixels.
    assert np.abs(pixels - expected).max() <= 1e-3 * max(height, width)
