"""The networks that measure, loaded when first asked for, each from the folder where its weights are installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from portraitanim.errors import MissingWeightsError
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.face.identity import IdentityEncoder
from portraitanim.face.landmarks import FaceMesh
from portraitanim.models.evaluators.face_reconstruction import FaceReconstruction
from portraitanim.models.evaluators.i3d import I3D
from portraitanim.models.evaluators.inception import InceptionV3
from portraitanim.models.evaluators.loading import load_evaluator
from portraitanim.models.evaluators.lpips import Lpips
from portraitanim.models.evaluators.s3fd import S3FD
from portraitanim.models.evaluators.syncnet import SyncNet

_Network = TypeVar("_Network", bound=nn.Module)


class Judges:
    """Networks of one process.

    Args:
        protocol: chooses flavours.
        folders: name in the registry → folder of installed weights. A name that is absent is not installed.
        device: where they run.
    """

    def __init__(
        self, protocol: EvaluationProtocol, folders: Mapping[str, Path], device: torch.device | None = None
    ) -> None:
        self._protocol = protocol
        self._folders = folders
        self.device = device or torch.device("cpu")

    @cached_property
    def face_mesh(self) -> FaceMesh:
        """Finds faces; needs no download."""
        return FaceMesh(thorough=False)

    @cached_property
    def inception(self) -> InceptionV3:
        """For FID."""
        return self._load("inception-2015", InceptionV3)

    @cached_property
    def i3d(self) -> I3D:
        """For FVD, with the constants of its flavour."""
        protocol = self._protocol
        return self._load("i3d-kinetics-400", lambda: I3D(eps=protocol.i3d_eps, pool_frames=protocol.i3d_pool_frames))

    @cached_property
    def lpips(self) -> Lpips:
        """For LPIPS."""
        trunk = self._protocol.lpips_trunk
        return self._load(f"lpips-{trunk}", lambda: Lpips("vgg" if trunk == "vgg" else "alex"))

    @cached_property
    def syncnet(self) -> SyncNet:
        """For Sync-C, Sync-D and the offset."""
        return self._load("syncnet-v2", SyncNet)

    @cached_property
    def s3fd(self) -> S3FD:
        """For SyncNet's crops as published."""
        return self._load("s3fd", S3FD)

    @cached_property
    def reconstruction(self) -> FaceReconstruction:
        """For E-FID."""
        return self._load("deep3d-recon", FaceReconstruction)

    @cached_property
    def identity(self) -> IdentityEncoder:
        """For CSIM."""
        return IdentityEncoder.load(self._folder("antelopev2"), str(self.device))

    def close(self) -> None:
        """Free what holds threads of its own."""
        if "face_mesh" in self.__dict__:
            self.face_mesh.close()

    def _load(self, name: str, build: Callable[[], _Network]) -> _Network:
        return load_evaluator(self._folder(name), name, build, self.device)

    def _folder(self, name: str) -> Path:
        if name not in self._folders:
            raise MissingWeightsError(f"The weights {name} are not installed. Run: portraitanim weights pull {name}")
        return self._folders[name]
