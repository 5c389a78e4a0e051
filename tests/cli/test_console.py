"""What the command line writes beside results."""

from __future__ import annotations

import logging

import pytest

from portraitanim.cli.console import Console


def test_a_warning_in_a_pipe_is_one_line_without_padding(capsys: pytest.CaptureFixture[str]) -> None:
    Console().set_up_logging(verbose=False)
    logging.getLogger("portraitanim.somewhere").warning("clip %s is left out: [damaged]", "a.mp4")
    written = capsys.readouterr()
    assert written.err == "WARNING: clip a.mp4 is left out: [damaged]\n"
    assert written.out == ""


def test_quiet_leaves_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.quiet = True
    console.set_up_logging(verbose=True)
    logging.getLogger("portraitanim.somewhere").warning("not shown")
    console.note("not shown")
    console.error("what to\ndo next")
    assert capsys.readouterr().err == "error: what to do next\n"
