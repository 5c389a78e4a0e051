"""A start for training: networks of a system from Stable Diffusion 1.5 and AnimateDiff's motion modules.

The papers began so: both UNets as Stable Diffusion's, the motion modules as AnimateDiff's, and fresh weights for all
that neither has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from portraitanim.checkpoints.component import shapes_of
from portraitanim.checkpoints.key_table import Rule, Shape, translate
from portraitanim.checkpoints.keys import base_unet_keys
from portraitanim.checkpoints.layouts import LAYOUTS
from portraitanim.checkpoints.published_folder import PublishedFolder
from portraitanim.config.schema import Preset
from portraitanim.errors import CheckpointError, InputError
from portraitanim.pipelines.build import build_networks
from portraitanim.tensor_files import read_tensors

BASE_LICENCE = "that of the base weights (Stable Diffusion 1.5: CreativeML OpenRAIL-M; AnimateDiff: Apache-2.0)"
"""Licence of what `base_networks` makes, for the manifest."""

SYSTEMS = tuple(name for name in LAYOUTS if not name.endswith("-acc"))
"""Systems that training can begin; the few-step variants are distilled from trained weights."""

_UNET_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_UNETS = ("reference_unet", "denoising_unet")
_SEED = 0
_MID_MOTION = r"^mid_block\.motion_modules\."

# The only parts of a UNet that may begin fresh; anything else that the base lacks is an error.
_AUDIO, _MOTION = r"\.audio_modules\.", r"\.motion_modules\."
_KEYS_VALUES = r"\.attn2\.to_[kv]\.weight$"
_FRESH: tuple[Rule, ...] = (
    (_AUDIO, "audio modules"),
    (r"^(down|up)_blocks\..*\.motion_modules\.", "motion modules"),
    (_MID_MOTION, "motion module of the middle block"),
    (_KEYS_VALUES, "keys and values of the second attentions"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseNetworks:
    """What `base_networks` read and made.

    Attributes:
        tensors: component → what our network loads.
        sources: component → the files that it came from.
        fresh: names of the parts that begin fresh.
    """

    tensors: Mapping[str, Mapping[str, Tensor]]
    sources: Mapping[str, tuple[Path, ...]]
    fresh: tuple[str, ...]

    @property
    def note(self) -> str:
        """What the user should know, in a sentence."""
        return (
            f"Begins fresh (seed {_SEED}): {', '.join(self.fresh)}. Train these weights before you animate with them."
        )


def base_networks(
    preset: Preset, networks: Mapping[str, Any], folder: PublishedFolder, motion_module: Path | None = None
) -> BaseNetworks:
    """Fill the networks of a system from base weights.

    Args:
        preset: of the system.
        networks: component → network on the meta device.
        folder: Stable Diffusion 1.5 as diffusers lays it out; only ``unet/`` is read here.
        motion_module: AnimateDiff's file; ``None``: motion modules begin fresh.

    Raises:
        CheckpointError: a file is missing or damaged, or its keys or shapes are not those of the networks.
    """
    path = _unet_file(folder)
    width = _cross_width(path.with_name("config.json"), preset)
    unet = folder.read(path)
    tensors: dict[str, dict[str, Tensor]] = {name: {} for name in networks}
    sources: dict[str, tuple[Path, ...]] = dict.fromkeys(networks, ())
    for name in _UNETS:
        tensors[name] = unet_tensors(name, unet, width, preset, shapes_of(networks[name]), path.name)
        sources[name] = (path,)
    if motion_module is not None:
        expected = shapes_of(networks["denoising_unet"])
        tensors["denoising_unet"] |= motion_tensors(read_tensors(motion_module), preset, expected, motion_module.name)
        sources["denoising_unet"] += (motion_module,)
    missing = {name: shapes_of(network).keys() - tensors[name].keys() for name, network in networks.items()}
    _fill(tensors, missing, preset, unet["conv_in.weight"].dtype)
    ordered = {name: {key: tensors[name][key] for key in shapes_of(network)} for name, network in networks.items()}
    return BaseNetworks(tensors=ordered, sources=sources, fresh=tuple(_names_of(missing)))


def unet_tensors(
    name: str, unet: Mapping[str, Tensor], width: int, preset: Preset, expected: Mapping[str, Shape], source: str = ""
) -> dict[str, Tensor]:
    """What one of our UNets takes of Stable Diffusion's.

    Args:
        name: ``reference_unet`` or ``denoising_unet``.
        unet: Stable Diffusion's tensors.
        width: of the tokens that its second attentions read. Where ours read others, their keys and values are left
            out.
        preset: of the system.
        expected: keys and shapes of our UNet.
        source: name of the file, for messages.

    Returns:
        All of ``expected`` but audio modules, motion modules, and those keys and values.

    Raises:
        CheckpointError: a tensor has no place and no reason, is missing, or has another shape.
    """
    from_unet = {key: shape for key, shape in expected.items() if not re.search(f"{_AUDIO}|{_MOTION}", key)}
    table = base_unet_keys(name, preset)
    if getattr(preset.network, name).cross_attention_dim not in (None, width):
        reason = f"Stable Diffusion's second attentions read tokens of width {width}"
        fresh = {key: reason for key in from_unet if re.search(_KEYS_VALUES, key)}
        table = replace(table, unused=(*table.unused, (_KEYS_VALUES, reason)), optional=fresh)
    return translate(unet, table, from_unet, source)


def motion_tensors(
    motion: Mapping[str, Tensor], preset: Preset, expected: Mapping[str, Shape], source: str = ""
) -> dict[str, Tensor]:
    """What our motion modules take of AnimateDiff's.

    Args:
        motion: AnimateDiff's tensors, version 2, or version 3, which has none in the middle block.
        preset: of the system.
        expected: keys and shapes of our denoising UNet.
        source: name of the file, for messages.

    Raises:
        CheckpointError: as `unet_tensors`, or a position table is not the sinusoid that we compute.
    """
    # Files that were saved while the network was wrapped for several GPUs have "module." before every key.
    published = {key.removeprefix("module."): tensor for key, tensor in motion.items()}
    ours = {key: shape for key, shape in expected.items() if re.search(_MOTION, key)}
    optional = {}
    if not any(key.startswith("mid_block.") for key in published):
        optional = {key: "AnimateDiff 3 has none" for key in ours if re.search(_MID_MOTION, key)}
    table = LAYOUTS["hallo"].tables["denoising_unet"](preset)  # Hallo's names of motion modules are AnimateDiff's
    next_step = "Use AnimateDiff's mm_sd_v15_v2.ckpt or v3_sd15_mm.ckpt."
    table = replace(table, what="AnimateDiff's motion modules", optional=optional, next_step=next_step)
    return translate(published, table, ours, source)


def require_startable(system: str) -> None:
    """Check that training can begin with a system's networks.

    Raises:
        InputError: it cannot.
    """
    if system not in SYSTEMS:
        raise InputError(f"{system!r} cannot begin from base weights (--from-base). Use one of {', '.join(SYSTEMS)}.")


def _unet_file(folder: PublishedFolder) -> Path:
    candidates = (folder.path / "unet" / name for name in _UNET_FILES)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise CheckpointError(
            f"{folder.path} is not Stable Diffusion 1.5 as diffusers lays it out: there is no unet/{_UNET_FILES[0]}. "
            f"It has {folder.listing()}. Name the folder that holds unet/ and vae/."
        )
    return path


def _cross_width(path: Path, preset: Preset) -> int:
    """Width of the tokens that the base reads. The number of heads is checked too: no shape tells it."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        # Stable Diffusion 1.5's attention_head_dim is the number of heads.
        heads = values.get("num_attention_heads") or values["attention_head_dim"]
        width = values["cross_attention_dim"]
    except FileNotFoundError:
        raise CheckpointError(f"There is no {path}, which tells the number of heads. Download it as well.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no config of a UNet ({error!r}). Download it again.") from None
    expected = preset.network.denoising_unet.num_attention_heads
    if heads != expected:
        raise CheckpointError(
            f"{path} says {heads} attention heads, {preset.name} has {expected}. Use Stable Diffusion 1.5 or weights "
            "that were fine-tuned from it."
        )
    return width


def _fill(
    tensors: dict[str, dict[str, Tensor]], missing: Mapping[str, Collection[str]], preset: Preset, dtype: torch.dtype
) -> None:
    """Add fresh weights in the number format of the base; networks that lack nothing are not built."""
    with torch.random.fork_rng(devices=[]):
        for name, keys in missing.items():
            if keys:
                torch.manual_seed(_SEED)
                state = build_networks(preset, "cpu", only=(name,))[name].state_dict()
                tensors[name] |= {key: state[key].to(dtype) for key in keys}


def _names_of(missing: Mapping[str, Collection[str]]) -> Iterator[str]:
    unet_keys = [key for name in _UNETS for key in missing[name]]
    for pattern, name in _FRESH:
        if any(re.search(pattern, key) for key in unet_keys):
            yield name
    for component, keys in missing.items():
        if component not in _UNETS and keys:
            yield component.replace("_", " ")
