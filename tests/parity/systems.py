"""The small networks of the goldens, built from the goldens' own JSON files by the code that users run.

Sizes come from ``small_config.json``, everything else from the presets; published keys pass through the key tables of
``portraitanim.checkpoints``, strictly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor, nn

from portraitanim.checkpoints.key_table import translate
from portraitanim.checkpoints.keys import ECHOMIMIC_KEYS, HALLO_KEYS
from portraitanim.config.presets import load_preset
from portraitanim.config.schema import Preset
from portraitanim.diffusion.schedule import make_scheduler
from portraitanim.models.portrait_network import PortraitNetwork
from portraitanim.pipelines.build import build_networks
from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline
from tests.goldens import hallo_weights, load_json, small_weights


@dataclass(frozen=True, kw_only=True)
class SmallSystem:
    """A small network of the goldens with everything that one call of the published code needs."""

    preset: Preset
    networks: dict[str, Any]
    vae: AutoencoderKL

    def network(self, rounded: bool, **quirks: bool) -> PortraitNetwork:
        """The networks, with or without the rounding of reference features to float16, and with other quirks."""
        return PortraitNetwork(
            **self.networks, quirks=replace(self.preset.quirks, round_reference_to_half=rounded, **quirks)
        )

    def pipeline(self, rounded: bool, **quirks: bool) -> PortraitAnimationPipeline:
        """The pipeline, with or without the rounding, and with further quirks."""
        pipe = PortraitAnimationPipeline(
            vae=self.vae,
            scheduler=make_scheduler(self.preset.scheduler),
            **self.networks,
            sampling=asdict(self.preset.sampling),
            quirks=asdict(replace(self.preset.quirks, round_reference_to_half=rounded, **quirks)),
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe


@lru_cache(maxsize=1)
def hallo() -> SmallSystem:
    """The small Hallo of the goldens."""
    config = load_json("hallo", "small_config.json")
    unet, extra, run = config["unet"], config["unet_additional_kwargs"], config["pipeline"]
    audio, image, locator = config["audio_proj"], config["image_proj"], config["face_locator"]
    network = {
        "reference_unet": _unet_sizes(unet) | {"cross_attention_dim": unet["cross_attention_dim"]},
        "denoising_unet": _unet_sizes(unet)
        | _motion_sizes(extra)
        | {"cross_attention_dim": unet["cross_attention_dim"], "audio_attention_dim": extra["audio_attention_dim"]},
        "condition_encoder": {
            "in_channels": locator["conditioning_channels"],
            "block_out_channels": locator["block_out_channels"],
            "out_channels": locator["conditioning_embedding_channels"],
        },
        "identity_projection": {
            "embedding_dim": image["clip_embeddings_dim"],
            "num_tokens": image["clip_extra_context_tokens"],
            "token_dim": image["cross_attention_dim"],
        },
        "audio_projection": {
            "window": audio["seq_len"],
            "num_layers": audio["blocks"],
            "feature_dim": audio["channels"],
            "hidden_dim": audio["intermediate_dim"],
            "num_tokens": audio["context_tokens"],
            "token_dim": audio["output_dim"],
        },
    }
    sampling = {
        "num_inference_steps": run["steps"],
        "guidance_scale": run["cfg"],
        "num_frames_per_clip": run["clip_length"],
        "num_motion_frames": run["n_motion_frames"],
    }
    preset = load_preset("hallo", {"network": network, "sampling": sampling})
    published = {
        "reference_unet": hallo_weights("reference_unet"),
        "denoising_unet": hallo_weights("denoising_unet"),
        "condition_encoder": hallo_weights("face_locator"),
        "identity_projection": hallo_weights("imageproj"),
        "audio_projection": hallo_weights("audioproj"),
    }
    networks = build_networks(preset)
    for name, module in networks.items():
        _load(module, published[name], HALLO_KEYS[name](preset))
    return SmallSystem(preset=preset, networks=networks, vae=_vae(config["vae"], hallo_weights("vae")))


@lru_cache(maxsize=2)
def echomimic(condition: str) -> SmallSystem:
    """The small EchoMimic of the goldens; ``condition`` is ``mask`` (audio driven) or ``pose`` (landmarks)."""
    config = load_json("echomimic", "small_config.json")
    unet, extra, locator = config["reference_unet"], config["denoising_unet_extra"], config["face_locator"]
    network = {
        "reference_unet": _unet_sizes(unet),
        "denoising_unet": _unet_sizes(unet)
        | _motion_sizes(extra)
        | {"cross_attention_dim": extra["cross_attention_dim"]},
        "condition_encoder": {
            "in_channels": locator[f"conditioning_channels_{'pose' if condition == 'pose' else 'audio'}"],
            "block_out_channels": locator["block_out_channels"],
            "out_channels": locator["conditioning_embedding_channels"],
        },
    }
    preset = load_preset("echomimic-pose" if condition == "pose" else "echomimic", {"network": network})
    published = {
        "reference_unet": small_weights("reference_unet"),
        "denoising_unet": small_weights("motion_module") | small_weights("denoising_unet"),
        "condition_encoder": small_weights("face_locator_pose" if condition == "pose" else "face_locator"),
    }
    networks = build_networks(preset)
    for name, module in networks.items():
        _load(module, published[name], ECHOMIMIC_KEYS[name](preset))
    return SmallSystem(preset=preset, networks=networks, vae=_vae(config["vae"], small_weights("vae")))


def _unet_sizes(unet: dict[str, Any]) -> dict[str, Any]:
    return {
        "in_channels": unet["in_channels"],
        "block_out_channels": unet["block_out_channels"],
        "layers_per_block": unet["layers_per_block"],
        # In Stable Diffusion 1.5 configs this is the number of heads.
        "num_attention_heads": unet["attention_head_dim"],
        "norm_num_groups": unet["norm_num_groups"],
    }


def _motion_sizes(extra: dict[str, Any]) -> dict[str, Any]:
    motion = extra["motion_module_kwargs"]
    return {
        "num_motion_heads": motion["num_attention_heads"],
        "max_motion_positions": motion["temporal_position_encoding_max_len"],
    }


def _load(module: nn.Module, published: dict[str, Tensor], table: Any) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict(translate(published, table, expected))


def _vae(config: dict[str, Any], weights: dict[str, Tensor]) -> AutoencoderKL:
    vae = AutoencoderKL(**config)
    vae.load_state_dict(weights)
    return vae.eval()
