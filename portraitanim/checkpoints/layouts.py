"""How the published folders are laid out: which file holds which component. Data only.

Sources: reference/hallo.md section 1, reference/echomimic.md section 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portraitanim.checkpoints.keys import ECHOMIMIC_KEYS, HALLO_KEYS, TableOf


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where the tensors of one component are.

    Attributes:
        files: paths in the published folder; each is also accepted in the folder's root, and as ``.safetensors``. The
            tensors of all are merged, and the last file wins where two hold the same.
        prefix: what stands before the component's keys, where a file holds several components.
    """

    files: tuple[str, ...]
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A published system.

    Attributes:
        preset: its preset.
        parts: our component → where it is.
        tables: our component → its key table.
        audio_encoder: name of the encoder whose states it reads.
        audio_folder: where the published folder has that encoder.
    """

    preset: str
    parts: Mapping[str, Part]
    tables: Mapping[str, TableOf]
    audio_encoder: str
    audio_folder: str

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the networks, each once."""
        return tuple(dict.fromkeys(name for part in self.parts.values() for name in part.files))


AUTOENCODER_FOLDERS = ("sd-vae-ft-mse", "vae")
AUTOENCODER_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
WAV2VEC_FILES = ("model.safetensors", "pytorch_model.bin")
WHISPER_FILES = ("whisper_tiny.pt", "tiny.pt", "model.safetensors", "pytorch_model.bin")


def _echomimic(preset: str, pose: str, accelerated: str) -> Layout:
    return Layout(
        preset=preset,
        parts={
            # The accelerated variants come without a reference network and locator of their own.
            "reference_unet": Part(files=(f"reference_unet{pose}.pth",)),
            "denoising_unet": Part(
                files=(f"motion_module{pose}{accelerated}.pth", f"denoising_unet{pose}{accelerated}.pth")
            ),
            "condition_encoder": Part(files=(f"face_locator{pose}.pth",)),
        },
        tables=ECHOMIMIC_KEYS,
        audio_encoder="whisper-tiny",
        audio_folder="audio_processor",
    )


LAYOUTS: Mapping[str, Layout] = {
    "hallo": Layout(
        preset="hallo",
        parts={
            "reference_unet": Part(files=("hallo/net.pth",), prefix="reference_unet."),
            "denoising_unet": Part(files=("hallo/net.pth",), prefix="denoising_unet."),
            "condition_encoder": Part(files=("hallo/net.pth",), prefix="face_locator."),
            "identity_projection": Part(files=("hallo/net.pth",), prefix="imageproj."),
            "audio_projection": Part(files=("hallo/net.pth",), prefix="audioproj."),
        },
        tables=HALLO_KEYS,
        audio_encoder="wav2vec2-base-960h",
        audio_folder="wav2vec/wav2vec2-base-960h",
    ),
    "echomimic": _echomimic("echomimic", "", ""),
    "echomimic-acc": _echomimic("echomimic-acc", "", "_acc"),
    "echomimic-pose": _echomimic("echomimic-pose", "_pose", ""),
    "echomimic-pose-acc": _echomimic("echomimic-pose-acc", "_pose", "_acc"),
}
"""The systems that can be converted, by name."""
