"""How much memory a video takes, predicted before it is made.

Parameters are counted. What the networks hold beside them is followed, not estimated: the pipeline itself makes two
clips on torch's meta device, where tensors have shapes and no contents, and the bytes that are alive are summed. So the
prediction knows preset, size, frames, batches and whatever the pipeline learns to do. What no tensor shows are the
constants of this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from portraitanim.audio.encoder_folders import num_parameters
from portraitanim.config.execution import ExecutionConfig
from portraitanim.config.schema import Preset, to_dict
from portraitanim.pipelines.build import build_pipeline
from portraitanim.pipelines.conditioning import silence_shape
from portraitanim.pipelines.live_bytes import LiveBytes, TracedAttention
from portraitanim.pipelines.network_layout import lay_channels_last
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from portraitanim.types import PortraitConditioning, RegionMasks

CUDA_BYTES = 600_000_000
"""Context and kernels of CUDA, which no tensor shows. From what others publish; not measured here."""

CUDA_SLACK = 0.06
"""Part of the working memory that torch's allocator rounds up and leaves between blocks. Not measured here."""

CPU_BYTES = 22_000_000
"""On a CPU: pages of torch's library that first calls touch (14 MB) and holes between small blocks (8 MB). Measured
with the bundled network (float32 at 512 pixels, bfloat16 at 256)."""

HOST_BYTES = 450_000_000
"""On a CPU: face model, video encoder and their libraries, which are loaded after the prediction."""


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """The memory of one video on the device that makes it.

    Attributes:
        parameter_bytes: of each network.
        working_bytes: most that tensors hold beside the parameters.
        working_bytes_of: the same while one network works, for those that are called.
        fixed_bytes: what neither of them shows.
        is_offloaded: whether networks take turns on the device.
    """

    parameter_bytes: Mapping[str, int]
    working_bytes: int
    working_bytes_of: Mapping[str, int]
    fixed_bytes: int
    is_offloaded: bool = False

    @property
    def networks_bytes(self) -> int:
        """Parameters that are on the device at once."""
        sizes = self.parameter_bytes.values()
        return max(sizes) if self.is_offloaded else sum(sizes)

    @property
    def total_bytes(self) -> int:
        """What the device must have."""
        if not self.is_offloaded:
            return self.networks_bytes + self.working_bytes + self.fixed_bytes
        together = {name: size + self.working_bytes_of.get(name, 0) for name, size in self.parameter_bytes.items()}
        return max(*together.values(), self.working_bytes) + self.fixed_bytes


def predict_memory(
    preset: Preset,
    *,
    dtype: torch.dtype,
    device_type: str,
    execution: ExecutionConfig,
    is_offloaded: bool = False,
    num_frames: int | None = None,
    process_bytes: int = 0,
) -> MemoryNeed:
    """Predict what one video takes.

    Args:
        preset: the system, with the resolved sampling.
        dtype: number format of the networks.
        device_type: ``cuda``, ``cpu`` or ``mps``; on a CPU, the memory is that of the process.
        execution: how much is computed at once.
        is_offloaded: whether networks take turns on the device.
        num_frames: frames of the video, where it is known and matters: the closed loop of overlapping windows keeps
            something of every frame.
        process_bytes: on a CPU, what the process holds already.
    """
    once = replace(execution, work_ahead=False)
    parameters, working_of, kernel_bytes = _followed(preset, dtype, device_type, once, num_frames)
    working = max(working_of.values())
    if execution.work_ahead:  # one clip is decoded while the next is denoised
        decoder = "small_decoder" if "small_decoder" in working_of else "vae"
        working = max(working, working_of["denoising_unet"] + working_of[decoder])
    if not is_offloaded:  # with offloading, it stays on the CPU
        parameters = {**parameters, "audio_encoder": 4 * num_parameters(preset.audio)}
    fixed = CPU_BYTES + kernel_bytes + process_bytes
    if device_type == "cuda":
        fixed = CUDA_BYTES + round(CUDA_SLACK * working)
    return MemoryNeed(
        parameter_bytes=parameters,
        working_bytes=working,
        working_bytes_of=working_of,
        fixed_bytes=fixed,
        is_offloaded=is_offloaded,
    )


def sample_conditions(preset: Preset, num_frames: int, device: str, dtype: torch.dtype) -> PortraitConditioning:
    """Conditions of the shapes that `animate` makes, with random contents."""
    size_px = preset.sampling.size_px
    network, unet = preset.network, preset.network.denoising_unet

    def made(*shape: int) -> Tensor:
        return torch.rand(shape, device=device, dtype=dtype)

    latent = size_px // 2 ** (len(preset.autoencoder.block_out_channels) - 1)
    sides = [-(-latent // 2**level) for level in range(len(unet.block_out_channels))]
    drawn = num_frames if preset.condition_map == "landmarks" else 1
    projection = network.identity_projection
    return PortraitConditioning(
        reference_image=made(1, 3, size_px, size_px) * 2 - 1,
        audio_windows=made(1, num_frames, *silence_shape(preset)),
        condition_map=made(1, drawn, network.condition_encoder.in_channels, size_px, size_px),
        identity_embedding=None if projection is None else made(1, projection.embedding_dim),
        region_masks=None
        if unet.audio_attention_dim is None
        else RegionMasks(levels=tuple(made(1, 1, 3, side * side) for side in sides)),
        moved_portrait=made(1, num_frames, 3, size_px, size_px) if preset.moves_portrait else None,
    )


def traced_sampling(preset: Preset) -> tuple[dict[str, Any], int]:
    """A run that is short and holds as much as any: sampling, and number of frames."""
    sampling = preset.sampling
    # One step holds what all of them hold.
    values = {**to_dict(sampling), "num_inference_steps": 1, "guidance_interval": (0.0, 1.0)}
    return values, (2 if sampling.plan == "sequential" else 3) * sampling.num_frames_per_clip


@lru_cache(maxsize=64)
def _followed(
    preset: Preset, dtype: torch.dtype, device_type: str, execution: ExecutionConfig, num_frames: int | None
) -> tuple[dict[str, int], dict[str, int], int]:
    """Parameters of each network, the most that tensors hold while it works ("": the pipeline itself), and kernels."""
    pipe = _shapes(preset, dtype, device_type)
    networks = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    if preset.sampling.decoder == "small":
        with torch.device("meta"):
            networks["small_decoder"] = AutoencoderTiny().to(dtype)
    parameters = {name: sum(t.nbytes for t in _tensors(module)) for name, module in networks.items()}
    sampling, short = traced_sampling(preset)
    working, kernel_bytes = _peaks(pipe, preset, networks, sampling, execution, short, device_type)
    if preset.sampling.plan == "overlapping" and num_frames is not None and num_frames > short:
        # The closed loop grows with each frame, equally: two lengths tell how much.
        longer, _ = _peaks(pipe, preset, networks, sampling, execution, 2 * short, device_type)
        more = (num_frames - short) / short
        working = {name: round(size + more * (longer[name] - size)) for name, size in working.items()}
    return parameters, working, kernel_bytes


def _shapes(preset: Preset, dtype: torch.dtype, device_type: str) -> PortraitAnimationPipeline:
    pipe = build_pipeline(preset, "meta", dtype)
    if device_type == "cpu":
        lay_channels_last(pipe.vae, pipe.condition_encoder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _peaks(
    pipe: PortraitAnimationPipeline,
    preset: Preset,
    networks: Mapping[str, nn.Module],
    sampling: Mapping[str, Any],
    execution: ExecutionConfig,
    num_frames: int,
    device_type: str,
) -> tuple[dict[str, int], int]:
    dtype, on_cpu = pipe.denoising_unet.dtype, device_type == "cpu"
    known = [tensor for module in networks.values() for tensor in _tensors(module)]
    attention = TracedAttention(by_products=on_cpu and dtype is torch.bfloat16)
    with attention, LiveBytes(known, on_cpu=on_cpu) as live, live.watching(networks):
        given = sample_conditions(preset, num_frames, "meta", dtype)
        small: Any = networks.get("small_decoder")
        for _ in pipe.stream(given, execution=execution, small_decoder=small, **sampling):
            pass
    return dict(live.peaks), live.kernel_bytes


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
