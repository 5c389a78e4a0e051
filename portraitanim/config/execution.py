"""How the work is cut up and carried out: choices of speed and memory that leave the video as it is. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from portraitanim.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How one video is computed. The frames are the same whatever is chosen, but for the rounding of the kernels.

    Attributes:
        num_frames_per_decode: frames that the autoencoder decodes at once.
        num_windows_per_call: overlapping windows that the denoising network reads at once; clips that follow one
            another depend on one another and are always read one by one.
        work_ahead: make the next clip in a thread of its own while the frames of this one are decoded, converted and
            encoded. It fills the gaps of a GPU; processor cores have none.
        branches_one_by_one: evaluate the branches of guidance in one call after another, not as one batch. Takes the
            memory of a run without guidance, and a little longer.
    """

    num_frames_per_decode: int = 1
    num_windows_per_call: int = 1
    work_ahead: bool = False
    branches_one_by_one: bool = False

    def __post_init__(self) -> None:
        for name, what in (("num_frames_per_decode", "--decode-batch"), ("num_windows_per_call", "--window-batch")):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{what} must be at least 1, got {value}.")

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
