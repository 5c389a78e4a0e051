"""The published files of the networks that measure, and how each becomes one ``model.safetensors``.

Their parameters keep the published names, so a file is checked and copied, and what is not read is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from portraitanim.checkpoints.component import Component, shapes_of
from portraitanim.checkpoints.key_table import KeyTable, translate
from portraitanim.checkpoints.published_folder import PublishedFolder
from portraitanim.errors import CheckpointError
from portraitanim.models.evaluators.face_reconstruction import FaceReconstruction
from portraitanim.models.evaluators.i3d import I3D
from portraitanim.models.evaluators.inception import InceptionV3
from portraitanim.models.evaluators.loading import MODEL_FILE
from portraitanim.models.evaluators.lpips import Lpips
from portraitanim.models.evaluators.s3fd import S3FD
from portraitanim.models.evaluators.syncnet import SyncNet

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class EvaluatorLayout:
    """A network that measures.

    Attributes:
        files: what is read and merged: the accepted names of each file, the first that is there is taken.
        build: makes the network.
        table: what becomes of its keys.
    """

    files: tuple[tuple[str, ...], ...]
    build: Callable[[], nn.Module]
    table: KeyTable


_TRUNK = ((r"^classifier\.", "the trunk's class scores are not read"),)

EVALUATORS: Mapping[str, EvaluatorLayout] = {
    "inception-2015": EvaluatorLayout(
        files=(("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),),
        build=InceptionV3,
        table=KeyTable(what="the Inception-v3 of FID", unused=((r"^fc\.", "FID does not read the class scores"),)),
    ),
    "i3d-kinetics-400": EvaluatorLayout(
        files=(("i3d_pretrained_400.pt",),), build=I3D, table=KeyTable(what="the I3D of FVD")
    ),
    "syncnet-v2": EvaluatorLayout(files=(("syncnet_v2.model",),), build=SyncNet, table=KeyTable(what="SyncNet")),
    "s3fd": EvaluatorLayout(files=(("sfd_face.pth",),), build=S3FD, table=KeyTable(what="SyncNet's S3FD")),
    "deep3d-recon": EvaluatorLayout(
        files=(("epoch_20.pth",),), build=FaceReconstruction, table=KeyTable(what="Deep3DFaceRecon")
    ),
    "lpips-alex": EvaluatorLayout(
        files=(("alex.pth",), ("alexnet-owt-7be5be79.pth",)),
        build=partial(Lpips, "alex"),
        table=KeyTable(what="LPIPS with AlexNet", unused=_TRUNK),
    ),
    "lpips-vgg": EvaluatorLayout(
        files=(("vgg.pth",), ("vgg16-397923af.pth",)),
        build=partial(Lpips, "vgg"),
        table=KeyTable(what="LPIPS with VGG-16", unused=_TRUNK),
    ),
}
"""By name in the registry."""


def read_evaluator(name: str, folder: PublishedFolder) -> Component:
    """Read the published files of a network that measures.

    Raises:
        CheckpointError: a file is missing or damaged, or its keys or shapes are not those of the network.
    """
    layout = EVALUATORS[name]
    files = tuple(_found(name, folder, names) for names in layout.files)
    merged: dict[str, Tensor] = {}
    for path in files:
        merged |= folder.read(path)
    with torch.device("meta"):
        expected = shapes_of(layout.build())
    for key in expected:
        # Files from before torch 0.4.1 do not count their batches, which nothing reads.
        if key.endswith(_COUNTER) and key not in merged:
            merged[key] = torch.tensor(0)
    return Component(
        name="",
        filename=MODEL_FILE,
        tensors=translate(merged, layout.table, expected, " with ".join(path.name for path in files)),
        save_config=lambda folder: None,
        sources=files,
    )


def _found(name: str, folder: PublishedFolder, names: tuple[str, ...]) -> Path:
    for candidate in names:
        path = folder.find(candidate)
        if path is not None:
            return path
    raise CheckpointError(f"{folder.path} has no {' or '.join(names)} of {name}. It has {folder.listing()}.")
