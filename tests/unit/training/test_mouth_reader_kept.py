from __future__ import annotations

import shutil
from pathlib import Path

from portraitanim.config.training import TrainingConfig
from portraitanim.face.mouth_reader import MOUTH_READER
from portraitanim.training.trainer import kept_mouth_reader
from tests.examples import ROOT


def test_mouth_reader_is_kept_as_long_as_the_audio_projection_is(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "weights" / "tiny" / MOUTH_READER, tmp_path / MOUTH_READER)
    config = TrainingConfig(start=str(tmp_path))
    assert kept_mouth_reader(config, ["denoising_unet.conv_in.weight"]) is not None
    assert kept_mouth_reader(config, ["denoising_unet.conv_in.weight", "audio_projection.proj1.weight"]) is None
    other = TrainingConfig(start=str(tmp_path), audio_projection="another")
    assert kept_mouth_reader(other, ["denoising_unet.conv_in.weight"]) is None
    assert kept_mouth_reader(TrainingConfig(), ["denoising_unet.conv_in.weight"]) is None
