"""The command line: subcommands, common options, and how errors become one line and an exit code.

A subcommand's module imports no torch at its top, so that ``--help`` is instant; it imports the library when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from portraitanim.cli import animate, bench, evaluate, prep, train, weights
from portraitanim.cli.console import console
from portraitanim.errors import OutOfMemoryError, PortraitAnimError

EXIT_CODES = {
    0: "done",
    1: "failure",
    2: "bad usage or input",
    3: "no usable face",
    4: "weights missing or damaged",
    5: "out of memory",
    6: "some jobs of a batch failed",
    130: "interrupted",
}
"""What the exit code of every command means."""

_EPILOG = "Exit codes:\n\n" + "\n\n".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())

app = typer.Typer(
    name="portraitanim",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
app.command("animate", help=animate.HELP)(animate.animate)
app.command("eval", help=evaluate.HELP)(evaluate.evaluate)
app.command("bench", help=bench.HELP)(bench.bench)
app.add_typer(weights.app, name="weights")
app.command("prep")(prep.prep)
app.command("train")(train.train)


def _show_version(wanted: bool) -> None:
    if wanted:
        from portraitanim import __version__

        console.result(f"portraitanim {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show results and errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and the whole log.")] = False,
) -> None:
    """Make a still portrait speak."""
    del version
    console.debug, console.quiet = debug, quiet
    console.set_up_logging(verbose)


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with the exit code that ``--help`` lists.

    Args:
        arguments: words of the command line; ``None`` takes this process's own.
    """
    console.debug = console.quiet = False
    try:
        app(args=None if arguments is None else list(arguments), prog_name="portraitanim")
    except KeyboardInterrupt:  # between the parser's own handling of it and ours
        sys.exit(130)
    except Exception as error:
        known = _as_known(error)
        console.error(str(known) if known else _unexpected(error))
        if console.debug:
            console.traceback()
        sys.exit(known.exit_code if known else 1)


def _as_known(error: Exception) -> PortraitAnimError | None:
    if isinstance(error, PortraitAnimError):
        return error
    # torch's own class, where torch is loaded at all; the allocators of CPU and MPS raise a RuntimeError.
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out_of_memory or "can't allocate memory" in str(error) or "MPS backend out of memory" in str(error):
        return OutOfMemoryError("Not enough memory. Choose a smaller --size, --dtype bf16, or --offload on a GPU.")
    return None


def _unexpected(error: Exception) -> str:
    text = str(error) or "no further explanation"
    return f"{type(error).__name__}: {text}. This is not an expected error: --debug shows where it happened."
