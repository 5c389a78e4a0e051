"""How the work is cut up and carried out: choices of speed and memory, not of the video. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from portraitanim.errors import ConfigError

MIN_TILE_PX = 128
"""Twice what neighbouring tiles share."""


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How one video is computed. But for tiles, the frames are the same within the rounding of the kernels.

    Attributes:
        num_frames_per_decode: frames that the autoencoder decodes at once; so many are encoded at once, too.
        num_windows_per_call: overlapping windows that the denoising network reads at once; clips that follow one
            another depend on one another and are always read one by one.
        work_ahead: make the next clip in a thread of its own while the frames of this one are decoded, converted and
            encoded. It fills the gaps of a GPU; processor cores have none.
        branches_one_by_one: evaluate the branches of guidance in one call after another, not as one batch. Takes the
            memory of a run without guidance, and a little longer.
        decode_tile_px: side of the tiles in which larger pictures are decoded, ``None`` for whole ones. Takes less
            memory and longer, and changes the pictures slightly. A multiple of 32.
    """

    num_frames_per_decode: int = 1
    num_windows_per_call: int = 1
    work_ahead: bool = False
    branches_one_by_one: bool = False
    decode_tile_px: int | None = None

    def __post_init__(self) -> None:
        for name, what in (("num_frames_per_decode", "--decode-batch"), ("num_windows_per_call", "--window-batch")):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{what} must be at least 1, got {value}.")
        tile = self.decode_tile_px
        if tile is not None and (tile < MIN_TILE_PX or tile % 32):
            raise ConfigError(f"--decode-tile must be a multiple of 32 and at least {MIN_TILE_PX}, got {tile}.")

    @classmethod
    def for_device(cls, device_type: str) -> ExecutionConfig:
        """What suits a device where nothing else was asked for.

        On a CPU, one frame at a time is faster (measured on the bundled weights: four at once take 1.1 to 1.4 times as
        long), and all cores are busy anyway. On a CUDA GPU, four frames fill it at small sizes and take about 1.6 GB
        at 512 pixels in bf16.
        """
        if device_type != "cuda":
            return cls()
        return cls(num_frames_per_decode=4, work_ahead=True)
