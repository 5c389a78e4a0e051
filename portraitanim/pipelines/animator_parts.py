"""What an animator works with, and where its videos go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.schema import Preset
from portraitanim.errors import InputError
from portraitanim.pipelines.feature_cache import FeatureCache
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline

if TYPE_CHECKING:
    from portraitanim.audio.encoders import AudioEncoder
    from portraitanim.face.mouth_reader import MouthReader
    from portraitanim.pipelines.memory_plan import MemoryPlan


@dataclass(kw_only=True)
class AnimatorParts:
    """What an `Animator` works with.

    Attributes:
        pipeline: the networks.
        preset: their system.
        audio_encoder: the encoder they were trained with.
        identity_encoder: `portraitanim.face.identity.IdentityEncoder`, where the networks read the identity.
        mouth_reader: reads the mouth from sound, where the weights have one.
        landmarker: folder or file of MediaPipe's face landmarker, where it is installed.
        separator: folder of the network that takes the voice out of a sound, where it is installed.
        small_decoder: diffusers' ``AutoencoderTiny`` for the same latents, where it is installed.
        execution: how much is computed at once; ``None`` for what suits the device.
        smaller_plans: ways that take less memory, the next one first, for when this one proves too large.
        cache: keeps what is computed of portraits; ``None``: nothing is kept.
        name: what the weights are called in summaries.
        fingerprint: hash of the weights.
    """

    pipeline: PortraitAnimationPipeline
    preset: Preset
    audio_encoder: AudioEncoder
    identity_encoder: Any | None = None
    mouth_reader: MouthReader | None = None
    landmarker: Path | None = None
    separator: Path | None = None
    small_decoder: Any | None = None
    execution: ExecutionConfig | None = None
    smaller_plans: list[MemoryPlan] = field(default_factory=list)
    cache: FeatureCache | None = None
    name: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where a video goes, apart from what it shows.

    Attributes:
        overwrite: replace what is there.
        resume: go on with what an interrupted run left.
        preview: write a contact sheet beside the video.
        debug_folder: where pictures of the intermediate steps go, or ``None``.
        crf: quality of the encoder, lower is better; ``None`` for the format's default.
    """

    overwrite: bool = False
    resume: bool = False
    preview: bool = False
    debug_folder: Path | None = None
    crf: int | None = None

    def check_live(self) -> None:
        """Refuse what needs the whole of a sound that still arrives.

        Raises:
            InputError: which option it is.
        """
        asked = {"resume": self.resume, "preview": self.preview, "debug-dir": self.debug_folder is not None}
        for name in (name for name, value in asked.items() if value):
            raise InputError(f"--{name} needs the whole sound, and this one still arrives. Leave it out.")
