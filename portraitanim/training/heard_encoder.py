"""The audio encoder of a training run: checked before the first step, and kept with what is trained."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from portraitanim.audio.encoder_folders import encoder_folder, require_fit, write_encoder
from portraitanim.audio.encoders import AudioEncoder, load_named_encoder
from portraitanim.config.audio import AudioConfig
from portraitanim.config.schema import Preset
from portraitanim.errors import CheckpointError, ConfigError
from portraitanim.training.checkpoint import list_checkpoints, whole_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HeardEncoder:
    """An audio encoder whose weights are at hand.

    Attributes:
        preset: the system, with the hash of the encoder's weights.
        folder: where they are.
    """

    preset: Preset
    folder: Path

    @classmethod
    def of(cls, preset: Preset, folder: Path | None = None) -> HeardEncoder | None:
        """The encoder of a preset; ``None`` where it has no weights, or has a name and is not at hand.

        Args:
            preset: the system.
            folder: the weights, where they are not those that the preset names.

        Raises:
            ConfigError: the networks do not fit the encoder, or no folder is named.
            MissingWeightsError: the folder or a file is absent.
            DamagedWeightsError: a file cannot be read, or its weights are not the encoder's.
            CheckpointError: a pickled file is damaged or holds more than tensors.
        """
        audio = preset.audio
        if folder is None and audio.is_family:
            folder = encoder_folder(audio)
        if folder is None or audio.family == "log-mel":
            return None
        require_fit(audio, preset.network, folder)
        _, named = load_named_encoder(audio, folder)
        return cls(preset=replace(preset, audio=named), folder=folder)

    def keep(self, folder: Path) -> None:
        """Write the weights, once per run: those of an earlier sitting stay, if it left anything to go on from.

        Raises:
            CheckpointError: an earlier sitting heard by another encoder.
            MediaError: the system refuses to write.
        """
        if folder.is_dir() and list_checkpoints(folder.parent):
            try:
                self._load(folder)
            except ConfigError:
                raise CheckpointError(
                    f"{folder.parent} was trained with another audio encoder than {self.folder}. Resume with the one "
                    f"in {folder}, or choose another --output."
                ) from None
            return
        encoder, audio = self._load(self.folder)
        with whole_folder(folder) as partial:
            write_encoder(encoder, partial)
        logger.info("The audio encoder %s is kept in %s.", audio.states_name, folder)

    def _load(self, folder: Path) -> tuple[AudioEncoder, AudioConfig]:
        return load_named_encoder(self.preset.audio, folder)
