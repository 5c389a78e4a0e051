"""``portraitanim weights``: what is known, what is installed, and how it gets here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portraitanim.checkpoints import registry, store
from portraitanim.cli.console import console
from portraitanim.errors import InputError

app = typer.Typer(no_args_is_help=True, help="List, download, convert and verify weights.")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Dtype = Annotated[str, typer.Option("--dtype", help="keep (as published), fp32, fp16 or bf16.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.command("list")
def list_weights(as_json: _Json = False) -> None:
    """Show the weights that can be used: installed or not, size, licence, and what they are for."""
    installed = set(store.installed_names())
    entries = list(registry.REGISTRY.values())
    if as_json:
        rows = [
            {
                **entry.to_dict(),
                "installed": entry.name in installed,
                "folder": str(store.folder_of(entry.name)) if entry.name in installed else None,
            }
            for entry in entries
        ]
        console.json({"folder": str(store.weights_folder()), "weights": rows})
        return
    console.table(
        ("name", "installed", "download", "commercial use", "licence", "for"),
        [
            (
                entry.name,
                "yes" if entry.name in installed else "no",
                _size_text(entry.size_bytes),
                entry.commercial_use,
                entry.licence,
                entry.purpose,
            )
            for entry in entries
        ],
    )
    console.note(f"Installed weights live in {store.weights_folder()} ({store.WEIGHTS_VARIABLE} names another folder).")


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="What to install; see `weights list`.")],
    dtype: _Dtype = "keep",
    overwrite: _Overwrite = False,
) -> None:
    """Download weights from the Hugging Face hub, with all that they need, and install them.

    A download that broke off goes on where it stopped. HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are respected.
    """
    from portraitanim.checkpoints import download

    order = list(dict.fromkeys(inner for name in names for inner in download.names_to_install(name)))
    for line in download.licence_notes(order):
        console.note(line)
    for name in order:
        # Only what was named is made anew; what it needs is left as it is.
        folder = download.pull(name, dtype=dtype, overwrite=overwrite and name in names, progress=console.progress())
        console.result(f"{name} {folder}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder with the published files.")],
    target: Annotated[
        Path | None, typer.Argument(help="Folder to make; by default the weights are installed.", show_default=False)
    ] = None,
    system: Annotated[str, typer.Option("--system", help="Whose files they are; see `weights list`.")] = ...,  # type: ignore[assignment]
    config: Annotated[
        str | None,
        typer.Option("--config", help="YAML preset with other sizes of the networks.", show_default=False),
    ] = None,
    from_base: Annotated[
        bool,
        typer.Option("--from-base", help="SOURCE is Stable Diffusion 1.5 (diffusers): make a start for training."),
    ] = False,
    motion_module: Annotated[
        Path | None,
        typer.Option(
            "--motion-module", help="AnimateDiff's file for --from-base: mm_sd_v15_v2.ckpt.", show_default=False
        ),
    ] = None,
    dtype: _Dtype = "keep",
    overwrite: _Overwrite = False,
    as_json: _Json = False,
) -> None:
    """Turn a published folder into one that `from_pretrained` reads. Every key and shape is checked first."""
    registry.find_entry(system)
    if from_base and target is None:
        # Installed under the system's name, animate would take them for trained weights.
        raise InputError("--from-base makes untrained weights, which are not installed. Name the folder to make.")
    from portraitanim.checkpoints.convert import convert as convert_folder

    result = convert_folder(
        system,
        source,
        target or store.folder_of(system),
        preset=config,
        dtype=dtype,
        overwrite=overwrite,
        progress=console.progress(),
        from_base=from_base,
        motion_module=motion_module,
    )
    for line in result.notes:
        console.note(line)
    if as_json:
        console.json(result.to_dict())
    else:
        console.result(f"{system} {result.folder} ({_size_text(result.size_bytes)})")


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|FOLDER]...", help="What to verify; by default all that is installed."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Compare weights with the sha256 that was recorded when they were installed."""
    reports = [store.verify(name, console.progress()) for name in names or store.installed_names()]
    if as_json:
        console.json({"intact": all(report.is_intact for report in reports), "weights": [r.to_dict() for r in reports]})
    else:
        for report in reports:
            state = "intact" if report.is_intact else "damaged"
            console.result(f"{report.name} {state} ({len(report.files)} files in {report.folder})")
    if not reports:
        console.note(f"Nothing is installed in {store.weights_folder()}.")
    for report in reports:
        report.raise_if_damaged()


def _size_text(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "unknown"
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes / 1e3:.0f} kB"
