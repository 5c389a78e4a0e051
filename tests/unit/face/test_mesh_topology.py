from __future__ import annotations

import itertools
from collections import Counter

import numpy as np

from portraitanim.face.landmarks import FaceMesh
from portraitanim.face.mesh_topology import mesh_triangles, mirror_order, mirror_points
from portraitanim.media.image import load_image
from tests.examples import PORTRAIT


def test_mirror_of_the_mirror_is_the_face() -> None:
    order = mirror_order()
    np.testing.assert_array_equal(order[order], np.arange(478))


def test_mirrored_points_are_those_of_the_mirrored_picture() -> None:
    image = load_image(PORTRAIT)
    with FaceMesh() as mesh:
        straight, flipped = (
            mesh.search(np.ascontiguousarray(view)).require()[0].points for view in (image, image[..., ::-1])
        )
    error = np.linalg.norm(mirror_points(straight, image.shape[2])[:, :2] - flipped[:, :2], axis=1)
    assert error.max() < 0.05 * np.ptp(straight[:, 0])


def test_triangles_make_one_sheet_with_holes_for_eyes_and_mouth() -> None:
    triangles = mesh_triangles()
    uses = Counter(tuple(sorted(line)) for corners in triangles for line in itertools.combinations(corners, 2))
    assert set(uses.values()) == {1, 2}
    # Euler: a disc with three holes.
    assert 468 - len(uses) + len(triangles) == 1 - 3
    rims = [set(line) for line, count in uses.items() if count == 1]
    assert {13, 82} in rims
    assert len(rims) == 36 + 20 + 16 + 16
