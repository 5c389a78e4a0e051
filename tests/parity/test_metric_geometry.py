"""Metric head shape and pose against the published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from portraitanim.errors import InputError
from portraitanim.face.metric_geometry import metric_geometry
from portraitanim.types import NUM_LANDMARKS, FaceLandmarks
from tests.parity.test_face_parity import geometry


@pytest.mark.parametrize("name", ["drv_a", "drv_b", "ref_a", "ref_b", "ref_c", "ref_d", "ref_e", "ref_pose_d"])
def test_shape_and_pose_are_the_published_ones(name: str) -> None:
    published = geometry(name)
    points = (published.landmarks * (512, 512, 512)).astype(np.float32)
    ours = metric_geometry(FaceLandmarks(points=points), (512, 512))
    # Centimetres; the published arithmetic is float32.
    np.testing.assert_allclose(ours.head_pose, published.head_pose, atol=2e-4)
    np.testing.assert_allclose(ours.mesh_cm, published.mesh_cm, atol=1e-4)


@given(turn=st.floats(-0.5, 0.5), scale=st.floats(0.3, 3.0))
def test_size_of_the_picture_in_pixels_does_not_matter(turn: float, scale: float) -> None:
    generator = np.random.default_rng(0)
    cloud = generator.uniform(-100, 100, (NUM_LANDMARKS, 3)) @ Rotation.from_euler("y", turn).as_matrix().T
    points = (cloud + np.array([300, 200, 0])).astype(np.float32)
    small = metric_geometry(FaceLandmarks(points=points[None]), (400, 600))
    large = metric_geometry(FaceLandmarks(points=(points * scale)[None]), (round(400 * scale), round(600 * scale)))
    np.testing.assert_allclose(small.head_pose[:, :3, :3], large.head_pose[:, :3, :3], atol=0.02)


def test_points_without_depth_have_no_pose() -> None:
    points = np.random.default_rng(0).uniform(0, 500, (2, NUM_LANDMARKS, 3)).astype(np.float32)
    points[1, :, 2] = 0
    with pytest.raises(InputError, match="frame 1"):
        metric_geometry(FaceLandmarks(points=points), (512, 512))
