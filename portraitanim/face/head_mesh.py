"""The face mesh continued over hair, neck and picture border, so that the whole head can be moved."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import Delaunay

from portraitanim.face.curves import smooth_step
from portraitanim.face.landmark_groups import FACE_SILHOUETTE, NUM_MESH_POINTS, RIGID_POINTS
from portraitanim.face.mesh_topology import mesh_triangles

INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
RIGHT_EYE_RING = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE_RING = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
"""Borders of the mesh's three holes, each around from one corner: first the upper line, then the lower."""

_RING_SCALES = (1.1, 1.25, 1.45, 1.75)
_BORDER_POINTS = 9
_HELD_SHARE = 0.16
"""From this distance to the border, in sides of the picture, the head's motion fades to nothing."""
_NECK_REACH = 0.3
"""Below the chin the motion fades over this share of the face's height."""
_DEPTH_REACH = 0.45
"""Over this distance from the face, in face heights, hair takes the depth of the ears."""
_SKIN_REACH = 0.22
"""How far the jaw's own motion carries into the neck, in face heights."""


class HeadMesh:
    """Triangles over a whole portrait, and where their points go when the face's landmarks move.

    Args:
        points: landmarks ``(478, 3)`` of the portrait, in its pixels.
        size_px: side of the portrait.

    Attributes:
        source: ``(points, 2)``: 468 mesh points, then those around the face.
        triangles: int ``(triangles, 3)``.
    """

    def __init__(self, points: np.ndarray, size_px: int) -> None:
        self.size_px = size_px
        self.landmarks = points.astype(np.float64)
        mesh = self.landmarks[:NUM_MESH_POINTS, :2]
        self._silhouette = np.array(FACE_SILHOUETTE)
        outline = mesh[self._silhouette]
        self._face_height = float(np.ptp(outline[:, 1]))
        outer = self._outer_points(outline)
        self.source = np.concatenate([mesh, outer])
        self.triangles = np.concatenate([self._outer_triangles(outline), *map(_fan, _HOLES), mesh_triangles()])
        self._num_behind = len(self.triangles) - len(mesh_triangles())
        self._hold = self._holding(outer)
        self._skin = self._skin_weights(outer, outline)
        self._outer_xyz1 = np.column_stack([outer, self._depths(outer, outline), np.ones(len(outer))])

    def head_motion(self, target: np.ndarray) -> np.ndarray:
        """The affine ``(2, 4)`` from portrait x, y, z, 1 to the moved picture that bone points follow best."""
        bone = list(RIGID_POINTS)
        source = np.column_stack([self.landmarks[bone], np.ones(len(bone))])
        return np.linalg.lstsq(source, target[bone, :2], rcond=None)[0].T

    def move(self, target: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Where the points go.

        Args:
            target: landmarks ``(478, 2 or 3)`` of one frame.
            head: from `head_motion`.

        Returns:
            ``(points, 2)``, in the order of `source`.
        """
        outer = self.source[NUM_MESH_POINTS:]
        rigid = self._outer_xyz1 @ head.T - outer
        outline = np.column_stack([self.landmarks[self._silhouette], np.ones(len(self._silhouette))])
        skin = self._skin @ (target[self._silhouette, :2] - outline @ head.T)
        moved = outer + self._hold[:, None] * rigid + skin
        return np.concatenate([target[:NUM_MESH_POINTS, :2], moved])

    def painting_order(self, target_z: np.ndarray) -> np.ndarray:
        """The triangles from back to front; ``target_z`` is ``(468,)``, nearer is smaller.

        Hair, eyeballs and mouth lie behind the skin, so that a closed lid or lip covers them whole.
        """
        behind, skin = np.split(self.triangles, [self._num_behind])
        return np.concatenate([behind, skin[np.argsort(-target_z[skin].max(1), kind="stable")]])

    def _outer_points(self, outline: np.ndarray) -> np.ndarray:
        centre = (outline.max(0) + outline.min(0)) / 2
        rings = [centre + scale * (outline - centre) for scale in _RING_SCALES]
        steps = np.linspace(0, self.size_px, _BORDER_POINTS)
        low, high = np.zeros_like(steps), np.full_like(steps, self.size_px)
        border = np.concatenate(
            [np.column_stack(pair) for pair in ((steps, low), (steps, high), (low, steps), (high, steps))]
        )
        margin = 0.03 * self.size_px
        ring = np.concatenate(rings)
        inside = ((ring > margin) & (ring < self.size_px - margin)).all(1)
        return np.unique(np.concatenate([ring[inside], border]).round(3), axis=0)

    def _outer_triangles(self, outline: np.ndarray) -> np.ndarray:
        numbers = np.concatenate([self._silhouette, np.arange(NUM_MESH_POINTS, len(self.source))])
        found = Delaunay(self.source[numbers]).simplices
        middles = self.source[numbers][found].mean(1)
        contour = outline.astype(np.float32)
        outside = [cv2.pointPolygonTest(contour, (float(x), float(y)), False) < 0 for x, y in middles]
        return numbers[found[np.array(outside)]]

    def _holding(self, outer: np.ndarray) -> np.ndarray:
        """1 where the head's motion is followed in full, 0 where the picture stays."""
        to_border = np.minimum(outer, self.size_px - outer).min(1) / (_HELD_SHARE * self.size_px)
        chin = self.landmarks[152, 1]
        above_shoulders = 1 - (outer[:, 1] - chin) / (_NECK_REACH * self._face_height)
        return smooth_step(to_border) * smooth_step(above_shoulders)

    def _depths(self, outer: np.ndarray, outline: np.ndarray) -> np.ndarray:
        """Depth of the points around the face: that of the outline nearby, further out that of the ears."""
        distance = np.linalg.norm(outer[:, None] - outline[None], axis=-1) / self._face_height
        near = np.exp(-0.5 * (distance / 0.08) ** 2) + 1e-9
        beside = near @ self.landmarks[self._silhouette, 2] / near.sum(1)
        ears = self.landmarks[[234, 454, 127, 356], 2].mean()
        return beside + smooth_step(distance.min(1) / _DEPTH_REACH) * (ears - beside)

    def _skin_weights(self, outer: np.ndarray, outline: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(outer[:, None] - outline[None], axis=-1) / self._face_height
        near = np.exp(-0.5 * (distance / 0.08) ** 2) + 1e-9
        near /= near.sum(1, keepdims=True)
        return near * np.exp(-0.5 * (distance.min(1, keepdims=True) / _SKIN_REACH) ** 2) * self._hold[:, None] ** 0.5


_HOLES = (INNER_LIPS, RIGHT_EYE_RING, LEFT_EYE_RING)


def _fan(ring: tuple[int, ...]) -> np.ndarray:
    """Triangles across a hole, between its upper and its lower line."""
    half = len(ring) // 2
    upper = ring[: half + 1]
    lower = (ring[0], *ring[:half:-1], ring[half])
    strips = []
    for index in range(half):
        a, b, c, d = upper[index], upper[index + 1], lower[index], lower[index + 1]
        strips += [(a, b, c), (b, c, d)]
    return np.array([strip for strip in strips if len(set(strip)) == 3])
