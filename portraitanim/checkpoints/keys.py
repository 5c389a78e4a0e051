"""Key tables of the published systems: how their tensors are called here, and which of them nobody needs.

A table depends on the preset only where depth or layers decide which tensors are idle; so it also fits networks of
other sizes. Sources: reference/hallo.md sections 0 and 1, reference/echomimic.md sections 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from portraitanim.checkpoints.key_table import KeyTable, Rule, shape_text
from portraitanim.config.schema import Preset
from portraitanim.models.motion_module import sinusoidal_positions

TableOf = Callable[[Preset], KeyTable]

_MOTION_RENAMES: tuple[Rule, ...] = (
    (r"\.temporal_transformer\.transformer_blocks\.0\.", "."),
    (r"\.temporal_transformer\.", "."),
)
_AUDIO_RENAMES: tuple[Rule, ...] = (
    (r"(\.audio_modules\.\d+)\.transformer_blocks\.0\.", r"\1."),
    # Hallo's order of regions: whole picture without the face (pose), face without the lips (expression), lips.
    (r"(\.audio_modules\.\d+)\.attn2_0\.", r"\1.attn_pose."),
    (r"(\.audio_modules\.\d+)\.attn2_1\.", r"\1.attn_expression."),
    (r"(\.audio_modules\.\d+)\.attn2_2\.", r"\1.attn_lip."),
    (r"(\.audio_modules\.\d+)\.zero_conv_full\.", r"\1.zero_conv_pose."),
    (r"(\.audio_modules\.\d+)\.zero_conv_face\.", r"\1.zero_conv_expression."),
)
_IDLE_REFERENCE = "comes after the last features that are recorded, so it influences nothing"
_IDLE_MOTION = "the published forward pass never runs the motion modules of stages without attention"

AUTOENCODER_KEYS = KeyTable(
    what="the Stable Diffusion autoencoder",
    # Names before diffusers 0.13; newer files have the names on the right already.
    renames=(
        (r"(\.mid_block\.attentions\.0)\.query\.", r"\1.to_q."),
        (r"(\.mid_block\.attentions\.0)\.key\.", r"\1.to_k."),
        (r"(\.mid_block\.attentions\.0)\.value\.", r"\1.to_v."),
        (r"(\.mid_block\.attentions\.0)\.proj_attn\.", r"\1.to_out.0."),
    ),
    matrices=r"\.mid_block\.attentions\.0\.to_(q|k|v|out\.0)\.weight$",
)


def _reference_unet(system: str, preset: Preset) -> KeyTable:
    config = preset.network.reference_unet
    last = len(config.attention_levels) - 1
    # Up stages run from the deepest level to the shallowest, so the shallowest level with attention records last.
    level = min((level for level, has in enumerate(config.attention_levels) if has), default=last + 1)
    stage = last - level
    block = rf"^up_blocks\.{stage}\.attentions\.{config.layers_per_block}\."
    if stage < 0:
        block = r"^mid_block\.attentions\.0\."
    later = "|".join(str(index) for index in range(stage + 1, last + 1))
    unused = [(block + r"(transformer_blocks\.0\.(attn1|norm2|attn2|norm3|ff)|proj_out)\.", _IDLE_REFERENCE)]
    if later:
        unused.append((rf"^up_blocks\.({later})\.", _IDLE_REFERENCE))
        unused.append((rf"^up_blocks\.{stage}\.upsamplers\.", _IDLE_REFERENCE))
    return KeyTable(what=f"{system}'s reference UNet", unused=tuple(unused))


def _denoising_unet(system: str, renames: tuple[Rule, ...], preset: Preset) -> KeyTable:
    config = preset.network.denoising_unet
    last = len(config.motion_levels) - 1
    unused = []
    for level, has_motion in enumerate(config.motion_levels):
        if not has_motion:
            unused.append((rf"^down_blocks\.{level}\.motion_modules\.\d+\.temporal_transformer\.", _IDLE_MOTION))
            unused.append((rf"^up_blocks\.{last - level}\.motion_modules\.\d+\.temporal_transformer\.", _IDLE_MOTION))
    check = partial(check_position_table, num_positions=config.max_motion_positions)
    return KeyTable(
        what=f"{system}'s denoising UNet",
        renames=renames,
        unused=tuple(unused),
        verified=((r"\.pos_encoder\.pe$", check),),
    )


def _same_names(what: str, preset: Preset) -> KeyTable:
    del preset
    return KeyTable(what=what)


HALLO_KEYS: Mapping[str, TableOf] = {
    "reference_unet": partial(_reference_unet, "Hallo"),
    "denoising_unet": partial(_denoising_unet, "Hallo", (*_MOTION_RENAMES, *_AUDIO_RENAMES)),
    "condition_encoder": partial(_same_names, "Hallo's face locator"),
    "identity_projection": partial(_same_names, "Hallo's image projection"),
    "audio_projection": partial(_same_names, "Hallo's audio projection"),
}
"""Tables of the parts of ``net.pth``, after their prefix, by our component."""

ECHOMIMIC_KEYS: Mapping[str, TableOf] = {
    "reference_unet": partial(_reference_unet, "EchoMimic"),
    "denoising_unet": partial(_denoising_unet, "EchoMimic", _MOTION_RENAMES),
    "condition_encoder": partial(_same_names, "EchoMimic's face locator"),
}
"""Tables of the four variants, which share all names, by our component."""


def base_unet_keys(component: str, preset: Preset) -> KeyTable:
    """Table of Stable Diffusion 1.5's UNet, whose names are ours, for one of our two UNets.

    Args:
        component: ``reference_unet`` or ``denoising_unet``.
        preset: of the system that begins with it.
    """
    what = "Stable Diffusion 1.5's UNet"
    next_step = f"{preset.name} begins with Stable Diffusion 1.5, or what was fine-tuned from it, whole."
    if component == "denoising_unet":
        return KeyTable(what=what, next_step=next_step)
    table = _reference_unet(what, preset)
    unused = [*table.unused, (r"^conv_(norm_)?out\.", _IDLE_REFERENCE)]
    if preset.network.reference_unet.cross_attention_dim is None:
        unused.append((r"\.transformer_blocks\.0\.(norm2|attn2)\.", "the reference blocks have no second attention"))
    return replace(table, what=what, unused=tuple(unused), next_step=next_step)


def check_position_table(table: Tensor, num_positions: int) -> str | None:
    """Compare a stored position table ``(1, positions, channels)`` with the sinusoid that we compute.

    Args:
        table: as stored; half precision is allowed for.
        num_positions: number of positions of our motion modules.

    Returns:
        What is wrong, or ``None``.
    """
    if table.ndim != 3 or table.shape[:2] != (1, num_positions) or table.shape[2] % 2:
        return f"is {shape_text(table.shape)}, not 1x{num_positions}x(even)"
    # One rounding of values up to 1: 2^-11 in float16, 2^-8 in bfloat16. Another table differs by about 1.
    tolerance = max(1e-3, torch.finfo(table.dtype).eps) if table.is_floating_point() else 0.0
    difference = (table.float() - sinusoidal_positions(num_positions, table.shape[2])).abs().max().item()
    if difference <= tolerance:
        return None
    return f"differs by up to {difference:.3g} from the sinusoid that the motion modules add"
