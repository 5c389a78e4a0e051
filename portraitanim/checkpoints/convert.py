"""From a published folder to a folder that ``from_pretrained`` reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from portraitanim.checkpoints.audio_parts import read_audio_encoder
from portraitanim.checkpoints.base_model import BASE_LICENCE, base_networks, require_startable
from portraitanim.checkpoints.component import Component, shapes_of
from portraitanim.checkpoints.evaluators import EVALUATORS, read_evaluator
from portraitanim.checkpoints.folder_swap import written_whole
from portraitanim.checkpoints.key_table import translate
from portraitanim.checkpoints.keys import AUTOENCODER_KEYS
from portraitanim.checkpoints.layouts import AUTOENCODER_FILES, AUTOENCODER_FOLDERS, LAYOUTS, Layout, Part
from portraitanim.checkpoints.manifest import record_file, write_manifest
from portraitanim.checkpoints.published_folder import PublishedFolder
from portraitanim.checkpoints.registry import REGISTRY
from portraitanim.checkpoints.store import installed
from portraitanim.config.audio import AUDIO_ENCODER_FOLDER
from portraitanim.config.presets import load_preset
from portraitanim.config.schema import Preset
from portraitanim.errors import CheckpointError, InputError
from portraitanim.pipelines.build import build_autoencoder, build_pipeline
from portraitanim.progress import ProgressReporter, SilentProgress

if TYPE_CHECKING:
    from portraitanim.pipelines.portrait_animation import PortraitAnimationPipeline

logger = logging.getLogger(__name__)

DTYPES = {"keep": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Number formats by name; ``keep`` writes the published bits."""

_AUTOENCODER = "sd-vae-ft-mse"
_DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class ConversionResult:
    """What `convert` wrote.

    Attributes:
        system: name of the system or component.
        folder: where.
        components: its parts.
        size_bytes: size of all files.
        notes: what the user should know, one sentence each.
    """

    system: str
    folder: str
    components: tuple[str, ...]
    size_bytes: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def convertible_names() -> tuple[str, ...]:
    """Names that `convert` knows: systems, and components that systems share."""
    return tuple(name for name, entry in REGISTRY.items() if entry.converts)


def convert(
    system: str,
    source: Path,
    target: Path,
    *,
    preset: str | Preset | None = None,
    dtype: str = "keep",
    overwrite: bool = False,
    progress: ProgressReporter | None = None,
    origin: str = "",
    from_base: bool = False,
    motion_module: Path | None = None,
) -> ConversionResult:
    """Read a published folder strictly and write ours: whole, or not at all.

    A system becomes a diffusers pipeline folder for `PortraitAnimationPipeline.from_pretrained`; an autoencoder or
    audio encoder becomes the folder of one component. All files are read and compared with the networks before the
    first byte is written. Tensors are mapped into memory, and at most one is copied at a time.

    Args:
        system: one of `convertible_names`.
        source: the published folder; its files are also accepted without their subfolders.
        target: the folder to make.
        preset: sizes of the networks, where they are not the published ones: a preset, its name, or a YAML file.
        dtype: one of `DTYPES`.
        overwrite: whether an existing target may be replaced.
        progress: told the bytes that are written.
        origin: where the source came from, for the manifest.
        from_base: ``source`` is Stable Diffusion 1.5 as diffusers lays it out, and the result a start for training:
            see `base_networks`.
        motion_module: AnimateDiff's file, with ``from_base``.

    Raises:
        CheckpointError: a file is missing or damaged, or its keys or shapes are not those of the networks.
        InputError: an unknown name, or a target that exists.
        PortraitAnimError: the target cannot be written.
    """
    if system not in convertible_names():
        raise InputError(f"Unknown system {system!r}. Use one of {', '.join(convertible_names())}.")
    if dtype not in DTYPES:
        raise InputError(f"Unknown dtype {dtype!r}. Use one of {', '.join(DTYPES)}.")
    if from_base:
        require_startable(system)
    elif motion_module is not None:
        raise InputError(f"A motion module file ({motion_module}) has no effect without --from-base.")
    folder = PublishedFolder(source)
    notes: list[str] = []
    if system in LAYOUTS:
        layout = LAYOUTS[system]
        resolved = preset if isinstance(preset, Preset) else load_preset(preset or layout.preset)
        pipeline = build_pipeline(resolved, "meta")
        networks = {name: module for name, module in pipeline.components.items() if name in layout.parts}
        if from_base:
            components = list(_base_networks(resolved, networks, folder, motion_module, notes))
        else:
            folder.require_files(system, layout)
            components = list(_networks(layout, resolved, networks, folder))
        components += _shared_components(layout, pipeline, folder, notes)
    else:
        pipeline = None
        components = [_single_component(system, preset, folder)]
    size = sum(component.size_bytes(DTYPES[dtype]) for component in components)
    reporter = progress or SilentProgress()
    with written_whole(target, overwrite, size) as partial:
        with reporter.task(f"Converting {system}", size) as task:
            for component in components:
                component.write(partial, DTYPES[dtype])
                task.advance(component.size_bytes(DTYPES[dtype]))
        if pipeline is not None:
            pipeline.save_config(partial)
            pipeline.scheduler.save_pretrained(partial / "scheduler")
        with reporter.task("Recording checksums"):
            sources = dict.fromkeys(path for component in components for path in component.sources)
            records = [record_file(path, folder.path) for path in sources]
            licence = BASE_LICENCE if from_base else REGISTRY[system].licence
            manifest = write_manifest(partial, system, licence, records, origin)
    return ConversionResult(
        system=system,
        folder=str(target),
        components=tuple(component.name or system for component in components),
        size_bytes=sum(record.size_bytes for record in manifest.files),
        notes=tuple(notes),
    )


def _shared_components(
    layout: Layout, pipeline: PortraitAnimationPipeline, folder: PublishedFolder, notes: list[str]
) -> list[Component]:
    """Autoencoder and audio encoder, which the folder may have or which may be installed."""
    autoencoder = _autoencoder_file(folder) or _installed_autoencoder()
    if autoencoder is None:
        raise CheckpointError(
            f"{folder.path} has no autoencoder ({AUTOENCODER_FOLDERS[0]}/{AUTOENCODER_FILES[0]}), and none is "
            f"installed. Add it, or run: portraitanim weights pull {_AUTOENCODER}"
        )
    components = [_autoencoder("vae", autoencoder, pipeline.vae)]
    audio = read_audio_encoder(layout.audio_encoder, folder.path / layout.audio_folder, AUDIO_ENCODER_FOLDER)
    if audio is not None:
        components.append(audio)
    elif installed(layout.audio_encoder) is None:
        notes.append(
            f"The audio encoder {layout.audio_encoder} is neither in {folder.path} nor installed. "
            f"Before you animate, run: portraitanim weights pull {layout.audio_encoder}"
        )
    return components


def _networks(
    layout: Layout, preset: Preset, networks: Mapping[str, Any], folder: PublishedFolder
) -> Iterator[Component]:
    for name, part in layout.parts.items():
        tensors, files = folder.tensors_of(part, layout)
        module = networks[name]
        yield Component(
            name=name,
            filename=_DIFFUSERS_FILE,
            tensors=translate(tensors, layout.tables[name](preset), shapes_of(module), _label(files, part)),
            save_config=module.save_config,
            sources=files,
        )


def _base_networks(
    preset: Preset,
    networks: Mapping[str, Any],
    folder: PublishedFolder,
    motion_module: Path | None,
    notes: list[str],
) -> Iterator[Component]:
    base = base_networks(preset, networks, folder, motion_module)
    notes.append(base.note)
    for name, module in networks.items():
        yield Component(
            name=name,
            filename=_DIFFUSERS_FILE,
            tensors=base.tensors[name],
            save_config=module.save_config,
            sources=base.sources[name],
        )


def _label(files: tuple[Path, ...], part: Part) -> str:
    names = " with ".join(path.name for path in files)
    return f"{part.prefix.rstrip('.')} in {names}" if part.prefix else names


def _single_component(system: str, preset: str | Preset | None, folder: PublishedFolder) -> Component:
    if system in EVALUATORS:
        return read_evaluator(system, folder)
    if system == _AUTOENCODER:
        path = _autoencoder_file(folder)
        if path is None:
            raise CheckpointError(
                f"{folder.path} holds none of {', '.join(AUTOENCODER_FILES)}. It has {folder.listing()}."
            )
        sizes = preset if isinstance(preset, Preset) else load_preset(preset or "hallo")
        return _autoencoder("", path, build_autoencoder(sizes, "meta"))
    subfolders = {layout.audio_folder for layout in LAYOUTS.values() if layout.audio_encoder == system}
    for place in (folder.path, *(folder.path / name for name in sorted(subfolders))):
        component = read_audio_encoder(system, place, "")
        if component is not None:
            return component
    raise CheckpointError(f"{folder.path} holds no {system}. It has {folder.listing()}.")


def _autoencoder(name: str, path: Path, vae: Any) -> Component:
    tensors: Mapping[str, Tensor] = PublishedFolder(path.parent).read(path)
    return Component(
        name=name,
        filename=_DIFFUSERS_FILE,
        tensors=translate(tensors, AUTOENCODER_KEYS, shapes_of(vae), path.name),
        save_config=vae.save_config,
        sources=(path,),
    )


def _autoencoder_file(folder: PublishedFolder) -> Path | None:
    places = [*(folder.path / name for name in AUTOENCODER_FOLDERS), folder.path]
    candidates = (place / file for place in places for file in AUTOENCODER_FILES)
    return next((path for path in candidates if path.is_file()), None)


def _installed_autoencoder() -> Path | None:
    place = installed(_AUTOENCODER)
    return None if place is None else place / _DIFFUSERS_FILE
