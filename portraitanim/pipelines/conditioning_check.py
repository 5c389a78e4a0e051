"""Do the conditions of a call fit the networks?"""

from __future__ import annotations

from diffusers import AutoencoderKL

from portraitanim.config.schema import SamplingConfig
from portraitanim.errors import InputError, ShapeError
from portraitanim.models.denoising_unet import DenoisingUNet
from portraitanim.types import Conditioning, RegionMasks, RegionWeights


def check_conditioning(
    conditions: Conditioning, sampling: SamplingConfig, denoising_unet: DenoisingUNet, vae: AutoencoderKL
) -> None:
    """Refuse conditions that do not fit the networks, before anything is computed.

    Raises:
        InputError: an option that these networks cannot do, or a condition that is missing.
        ShapeError: sizes that do not fit.
    """
    conditioning = conditions.window([0])
    height, width = conditioning.reference_image.shape[-2:]
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if height % factor or width % factor:
        raise ShapeError(f"Height and width must be multiples of {factor}, got {height} by {width}.")
    longest = sampling.num_frames_per_clip + sampling.num_motion_frames
    if longest > denoising_unet.config.max_motion_positions:
        raise InputError(
            f"num_frames_per_clip + num_motion_frames is {longest}, the motion modules know "
            f"{denoising_unet.config.max_motion_positions} positions. Choose a shorter clip."
        )
    if denoising_unet.has_regional_audio and conditioning.region_masks is None:
        raise InputError("This network's audio attention works by region: give region_masks.")
    condition_map = conditioning.condition_map
    if condition_map is not None and condition_map.shape[-2:] != (height, width):
        raise ShapeError(
            f"The condition map is {condition_map.shape[-2]} by {condition_map.shape[-1]}, "
            f"the portrait {height} by {width}: they must be equal."
        )
    if conditioning.region_masks is not None:
        _check_masks(conditioning.region_masks, height // factor, width // factor)
    if not denoising_unet.has_regional_audio and conditioning.region_weights != RegionWeights():
        raise InputError("This network has no regional audio attention: region weights would have no effect.")


def _check_masks(masks: RegionMasks, height: int, width: int) -> None:
    """Raise unless each level of the masks has the tokens of that depth of the UNet."""
    for level, mask in enumerate(masks.levels):
        expected = -(-height // 2**level) * -(-width // 2**level)
        if mask.shape[-1] != expected:
            raise ShapeError(
                f"Region masks at level {level} have {mask.shape[-1]} tokens, latents of {height} by {width} need "
                f"{expected}. Make them for the size of the portrait."
            )
