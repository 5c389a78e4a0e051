"""Which of the 478 MediaPipe face-mesh points belong to which part, and the lines that join them.

Sides are the subject's own: the left eye appears on the right of the picture. The numbers are those of
MediaPipe's face mesh; they are written out here because importing mediapipe takes seconds. The paint order
of the lines is that of the published EchoMimic drawings, where a later line covers an earlier one.
"""

from __future__ import annotations

import itertools

Edges = tuple[tuple[int, int], ...]


def _chain(*points: int) -> Edges:
    return tuple(itertools.pairwise(points))


NUM_MESH_POINTS = 468
"""Points of the mesh proper; 468..472 are the right iris, 473..477 the left, each with its centre first."""

LEFT_EYE_EDGES: Edges = (
    *((374, 380), (390, 373), (249, 390), (385, 384), (373, 374), (263, 466), (387, 386), (381, 382)),
    *((384, 398), (466, 388), (386, 385), (388, 387), (263, 249), (380, 381), (398, 362), (382, 362)),
)
RIGHT_EYE_EDGES: Edges = (
    *((154, 155), (33, 7), (246, 161), (159, 158), (144, 145), (173, 133), (158, 157), (163, 144)),
    *((153, 154), (7, 163), (161, 160), (157, 173), (33, 246), (160, 159), (145, 153), (155, 133)),
)
LEFT_EYEBROW_EDGES: Edges = (
    *((334, 296), (276, 283), (293, 334), (295, 285)),
    *((296, 336), (282, 295), (283, 282), (300, 293)),
)
RIGHT_EYEBROW_EDGES: Edges = ((46, 53), (66, 107), (52, 65), (53, 52), (63, 105), (70, 63), (65, 55), (105, 66))
LEFT_IRIS_EDGES: Edges = ((476, 477), (475, 476), (477, 474), (474, 475))
RIGHT_IRIS_EDGES: Edges = ((469, 470), (472, 469), (471, 472), (470, 471))

LOWER_OUTER_LIP_RIGHT_EDGES = _chain(61, 146, 91, 181, 84, 17)
LOWER_OUTER_LIP_LEFT_EDGES = _chain(17, 314, 405, 321, 375, 291)
LOWER_INNER_LIP_RIGHT_EDGES = _chain(78, 95, 88, 178, 87, 14)
LOWER_INNER_LIP_LEFT_EDGES = _chain(14, 317, 402, 318, 324, 308)
UPPER_OUTER_LIP_RIGHT_EDGES = _chain(61, 185, 40, 39, 37, 0)
UPPER_OUTER_LIP_LEFT_EDGES = _chain(0, 267, 269, 270, 409, 291)
UPPER_INNER_LIP_RIGHT_EDGES = _chain(78, 191, 80, 81, 82, 13)
UPPER_INNER_LIP_LEFT_EDGES = _chain(13, 312, 311, 310, 415, 308)

FACE_SILHOUETTE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
"""The outline of the face, from the top of the forehead clockwise as seen in the picture."""

OUTLINE_EDGES = _chain(*FACE_SILHOUETTE, FACE_SILHOUETTE[0])

LIPS_OUTLINE = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 146, 91, 181, 84, 17, 314, 405, 321, 375)
"""The outer border of the lips, from which Hallo takes its lip box."""


def _points_of(*edge_lists: Edges) -> tuple[int, ...]:
    return tuple(sorted({point for edges in edge_lists for edge in edges for point in edge}))


LEFT_EYE = _points_of(LEFT_EYE_EDGES)
RIGHT_EYE = _points_of(RIGHT_EYE_EDGES)
EYES = tuple(sorted(LEFT_EYE + RIGHT_EYE))
LEFT_EYEBROW = _points_of(LEFT_EYEBROW_EDGES)
RIGHT_EYEBROW = _points_of(RIGHT_EYEBROW_EDGES)
RIGHT_IRIS = (468, 469, 470, 471, 472)
LEFT_IRIS = (473, 474, 475, 476, 477)
RIGHT_PUPIL, LEFT_PUPIL = 468, 473
NOSE_TIP_POINT = 4
NOSE = (1, 4, 5, 44, 45, 51, 220, 274, 275, 281, 440)
"""The tip of the nose, as EchoMimic's motion synchronization groups it."""

MOUTH = _points_of(
    *(LOWER_OUTER_LIP_RIGHT_EDGES, LOWER_OUTER_LIP_LEFT_EDGES, LOWER_INNER_LIP_RIGHT_EDGES),
    *(LOWER_INNER_LIP_LEFT_EDGES, UPPER_OUTER_LIP_RIGHT_EDGES, UPPER_OUTER_LIP_LEFT_EDGES),
    *(UPPER_INNER_LIP_RIGHT_EDGES, UPPER_INNER_LIP_LEFT_EDGES),
)

SYNC_PARTS: dict[str, tuple[int, ...]] = {
    "left_eye": (*LEFT_EYE, LEFT_PUPIL),
    "right_eye": (*RIGHT_EYE, RIGHT_PUPIL),
    "mouth": MOUTH,
    "nose": NOSE,
    "left_eyebrow": LEFT_EYEBROW,
    "right_eyebrow": RIGHT_EYEBROW,
}
"""The parts that motion synchronization fits one by one (EchoMimic)."""

LIP_PAIRS: Edges = (
    *((13, 14), (82, 87), (81, 178), (80, 88), (191, 95)),
    *((312, 317), (311, 402), (310, 318), (415, 324)),
)
"""Points of the inner lips that meet when the mouth closes: (upper, lower)."""

RIGHT_EYELID_PAIRS: Edges = ((246, 7), (161, 163), (160, 144), (159, 145), (158, 153), (157, 154), (173, 155))
LEFT_EYELID_PAIRS: Edges = ((466, 249), (388, 390), (387, 373), (386, 374), (385, 380), (384, 381), (398, 382))
"""Points of the lids that meet when the eye closes: (upper, lower)."""

RIGID_POINTS = (
    *(33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 8, 9, 151, 10),
    *(109, 338, 67, 297, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 234, 454),
)
"""Points on bone: eye corners, ridge of the nose, forehead and temples. They show how the head moves."""
