"""``portraitanim prep``: raw videos → a dataset of clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portraitanim.cli.console import console
from portraitanim.errors import InputError
from portraitanim.runtime import num_cores

if TYPE_CHECKING:
    import torch

    from portraitanim.audio.encoders import AudioEncoder
    from portraitanim.data.preparation.clip_features import FeatureNetworks
    from portraitanim.data.preparation.clip_judges import ClipJudges
    from portraitanim.data.preparation.listing import DatasetSummary
    from portraitanim.data.preparation.sources import SourceClip

DATASETS = ("folder", "hdtf", "celebv")
_SYNCNET = "syncnet-v2"


def prep(
    raw: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RAW...", help="Folders with videos, searched with all below them, or video files."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the dataset; a run that broke off goes on there.")
    ] = ...,  # type: ignore[assignment]
    dataset: Annotated[
        str, typer.Option("--dataset", help="What the videos are: folder, hdtf, or celebv (CelebV-HQ and -Text).")
    ] = "folder",
    annotations: Annotated[
        Path | None,
        typer.Option("--annotations", help="HDTF's folder HDTF_dataset, or CelebV's JSON file.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with limits and sizes.", show_default=False)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value, such as filters.max_yaw_degrees=30."),
    ] = None,
    size: Annotated[int | None, typer.Option("--size", help="Side of the clips in pixels.", show_default=False)] = None,
    audio_encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--audio-encoder",
            metavar="ENCODER",
            help="Store its states: wav2vec2-base-960h, whisper-tiny, log-mel, or the folder of a wav2vec2 or "
            "Whisper checkpoint.",
        ),
    ] = None,
    identity: Annotated[
        bool,
        typer.Option(help="Store identity embeddings and tell persons apart by them, where antelopev2 is installed."),
    ] = True,
    latents: Annotated[
        str | None,
        typer.Option(
            "--latents",
            metavar="WEIGHTS",
            help="Store each clip as latents of the autoencoder of these weights (a name or folder), to train on.",
            show_default=False,
        ),
    ] = None,
    syncnet: Annotated[
        bool | None,
        typer.Option(
            "--syncnet/--no-syncnet",
            help="Judge lips and sound by SyncNet as well; by default where syncnet-v2 is installed.",
            show_default=False,
        ),
    ] = None,
    separate_vocals: Annotated[
        bool,
        typer.Option("--separate-vocals", help="Look for speech in the voice alone, by kim-vocal-2; needs much time."),
    ] = False,
    device: Annotated[str, typer.Option("--device", help="Where networks for what is stored run.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes; by default one for each core, 0 for none.", show_default=False),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Do the I-th of N shares; see --merge.", show_default=False),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="List the dataset when all shards are done.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write an HTML page about it.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Cut videos of people into clips to train on, and drop what would spoil the training.

    Keeps clips in which one person speaks in sync with the sound, without cuts, camera motion, wild moves or side
    views. Every limit can be set; what was measured, kept and dropped is in manifest.jsonl and rejected.jsonl.
    """
    from portraitanim.config.preparation import load_preparation
    from portraitanim.data.preparation.run import merge_shards, prepare
    from portraitanim.data.preparation.shard import Shard

    stored = bool(audio_encoder or latents or separate_vocals or syncnet is not None)
    _check_usage(raw, dataset, annotations, shard, merge, report, stored)
    changes = _overrides(assignments, size)
    if merge and (config is not None or changes):
        raise InputError("--merge takes the settings of the shards. Leave --config, --set and --size out.")
    summary: DatasetSummary | None
    if merge:
        summary = merge_shards(output)
    else:
        settings = load_preparation(config, *changes)
        share = None if shard is None else Shard.parse(shard)
        networks = _networks(audio_encoder or [], identity, latents, device)
        summary = prepare(
            _sources(raw or [], output, dataset, annotations),
            output,
            settings,
            num_workers=num_cores() if workers is None else workers,
            shard=share,
            networks=networks,
            judges=_judges(syncnet, separate_vocals),
            progress=console.progress(),
        )
    if summary is None and as_json:
        console.json({"root": str(output), "shard": shard})
        return
    if summary is None:
        console.result(f"Shard {shard} of {output} is done. When all are: portraitanim prep --merge --output {output}")
        return
    if report is not None:
        _write_report(output, summary, report)
    if as_json:
        console.json(summary.to_dict())
    else:
        _show(summary, report)


def _sources(raw: list[Path], output: Path, dataset: str, annotations: Path | None) -> list[SourceClip]:
    from portraitanim.data.preparation.published import listed_clips
    from portraitanim.data.preparation.sources import VideoIndex

    return listed_clips(None if annotations is None else dataset, VideoIndex.of(raw, exclude=output), annotations)


def _networks(audio_encoders: list[str], wants_identity: bool, latents: str | None, device: str) -> FeatureNetworks:
    from portraitanim.checkpoints.animators import choose_weights
    from portraitanim.checkpoints.store import installed
    from portraitanim.data.preparation.clip_features import FeatureNetworks, LatentEncoder
    from portraitanim.face.identity import PACK_NAME, IdentityEncoder
    from portraitanim.pipelines.weights_folder import load_autoencoder
    from portraitanim.runtime import resolve_device

    place = resolve_device(device)
    loaded = [_audio_encoder(name, place) for name in dict.fromkeys(audio_encoders)]
    encoders = {encoder.encoder_name: encoder for encoder in loaded}
    autoencoder = None
    if latents is not None:
        autoencoder = LatentEncoder.of(load_autoencoder(choose_weights(latents).folder, place))
    pack = installed(PACK_NAME) if wants_identity else None
    if pack is None:
        return FeatureNetworks(audio=encoders, latents=autoencoder)
    console.note(f"Identity embeddings by {PACK_NAME}, for non-commercial research only (--no-identity: none).")
    # onnxruntime has no device for Apple's GPUs here.
    where = "cpu" if place.type == "mps" else str(place)
    return FeatureNetworks(audio=encoders, identity=IdentityEncoder.load(pack, where).encode, latents=autoencoder)


def _audio_encoder(name_or_folder: str, device: torch.device) -> AudioEncoder:
    from portraitanim.audio.encoder_folders import family_of
    from portraitanim.audio.encoders import ENCODER_NAMES, load_audio_encoder
    from portraitanim.checkpoints.store import require

    folder = Path(name_or_folder).expanduser()
    if name_or_folder not in ENCODER_NAMES and (folder.is_dir() or len(folder.parts) > 1):
        return load_audio_encoder(family_of(folder), folder, device=device)
    has_weights = name_or_folder in ENCODER_NAMES and name_or_folder != "log-mel"
    return load_audio_encoder(name_or_folder, require(name_or_folder) if has_weights else None, device=device)


def _judges(wants_syncnet: bool | None, wants_separator: bool) -> ClipJudges:
    from portraitanim.audio.separation import WEIGHTS_NAME
    from portraitanim.checkpoints.store import installed, require
    from portraitanim.data.preparation.clip_judges import ClipJudges

    syncnet = installed(_SYNCNET) if wants_syncnet is None else require(_SYNCNET) if wants_syncnet else None
    return ClipJudges(syncnet=syncnet, separator=require(WEIGHTS_NAME) if wants_separator else None)


def _overrides(assignments: list[str] | None, size: int | None) -> list[dict[str, Any]]:
    from portraitanim.config.presets import parse_assignment

    overrides = [parse_assignment(text) for text in assignments or []]
    return overrides if size is None else [*overrides, {"crop": {"size_px": size}}]


def _check_usage(
    raw: list[Path] | None,
    dataset: str,
    annotations: Path | None,
    shard: str | None,
    merge: bool,
    report: Path | None,
    uses_networks: bool,
) -> None:
    if dataset not in DATASETS:
        raise InputError(f"--dataset must be one of {', '.join(DATASETS)}, got {dataset!r}.")
    if (annotations is None) != (dataset == "folder"):
        raise InputError("--annotations and --dataset hdtf or celebv go together. Give both, or neither.")
    if merge and (raw or shard or annotations or uses_networks):
        raise InputError(
            "--merge reads no videos. Leave RAW, --shard, --annotations and the options that choose networks out "
            "(--audio-encoder, --latents, --syncnet, --separate-vocals)."
        )
    if not merge and not raw:
        raise InputError("Name at least one folder with videos, or a video file.")
    if shard is not None and report is not None:
        raise InputError("A shard has no report. Give --report with --merge.")


def _write_report(output: Path, summary: DatasetSummary, report: Path) -> None:
    from portraitanim.data.preparation.report import write_report
    from portraitanim.data.preparation.run import stored_config

    write_report(output, stored_config(output), summary, report)


def _show(summary: DatasetSummary, report: Path | None) -> None:
    console.table(
        ("list", "listed", "found", "used", "clips kept", "seconds kept"),
        [
            (
                row.dataset,
                str(row.num_listed),
                str(row.num_found),
                str(row.num_used),
                str(row.num_kept),
                f"{row.kept_seconds:.1f}",
            )
            for row in summary.coverage
        ],
    )
    for reason, count in summary.reasons.items():
        console.result(f"dropped for {reason}: {count}")
    console.result(
        f"{summary.num_kept} of {summary.num_candidates} clips kept, {summary.num_test_clips} of them for tests; "
        f"{summary.num_identities} identities, which are {summary.identities_are}"
    )
    console.result(f"held out for tests: {summary.held_out_are}")
    console.result(f"fingerprint {summary.fingerprint}")
    console.result(f"dataset {summary.root}")
    if report is not None:
        console.result(f"report {report}")
