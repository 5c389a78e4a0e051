from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portraitanim.config.animation import AnimationOptions
from portraitanim.errors import InputError
from portraitanim.pipelines.batch import default_output, read_jobs

DEFAULTS = AnimationOptions(seed=1)


def jobs_of(path: Path, text: str | bytes, defaults: AnimationOptions = DEFAULTS) -> list:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return read_jobs(path, defaults)


def test_paths_are_relative_to_the_file_and_options_are_typed(tmp_path: Path) -> None:
    text = '\ufeffportrait,audio,size,parts,face,paste_back\na.jpg,b.wav,64,"eyes,nose",2,yes\n'
    (job,) = jobs_of(tmp_path / "jobs.csv", text)
    assert (job.portrait, job.audio, job.driving) == (tmp_path / "a.jpg", tmp_path / "b.wav", None)
    assert job.output == tmp_path / default_output(Path("a.jpg"), Path("b.wav"))
    options = job.options
    assert (options.size_px, options.parts, options.face, options.paste_back) == (64, ("eyes", "nose"), "2", True)
    assert options.seed == 1, "what a row leaves out comes from the command line"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("jobs.txt", "x", "must be .csv or .jsonl"),
        ("jobs.csv", "portrait,audio\n", "has no jobs"),
        ("jobs.csv", "audio\nb.wav\n", "line 2: has no portrait"),
        ("jobs.csv", "portrait,colour\na.jpg,red\n", "unknown column 'colour'"),
        ("jobs.csv", "portrait,size\na.jpg,63\n", "line 2: --size must be"),
        ("jobs.csv", "portrait,seed\na.jpg,x\n", "line 2: seed must be"),
        ("jobs.csv", "portrait,audio\na.jpg,b.wav,c\n", "more cells than the header"),
        ("jobs.csv", "portrait,output\na.jpg,o.mp4\nb.jpg,o.mp4\n", "both write"),
        ("jobs.jsonl", "[1]\n", "line 1: must be a mapping"),
        ("jobs.jsonl", "{", "line 1: is not JSON"),
        ("jobs.csv", b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_mistake_is_named_with_its_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        jobs_of(tmp_path / name, text)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='portait,audio\n"{}[]:0. \x00\r', max_size=200).map(str.encode),
    ),
    suffix=st.sampled_from([".csv", ".jsonl"]),
)
def test_hostile_batch_file_gives_jobs_or_our_error(tmp_path: Path, text: bytes, suffix: str) -> None:
    with suppress(InputError):
        jobs_of(tmp_path / f"jobs{suffix}", text or b"\n")


def test_paths_that_look_like_numbers_stay_as_they_are(tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path / "jobs.csv", "Portrait,audio ,output,face\n0123,no,1_000,01\n")
    assert (job.portrait, job.audio, job.output) == (tmp_path / "0123", tmp_path / "no", tmp_path / "1_000")
    assert job.options.face == "01"


@pytest.mark.parametrize("value", ["a\\u0000b", ["a.jpg"], 5, " "])
def test_path_that_is_no_file_name_is_refused(tmp_path: Path, value: object) -> None:
    text = json.dumps({"portrait": value}).replace("\\\\u0000", "\\u0000")
    with pytest.raises(InputError, match="line 1: portrait must be the name of a file"):
        jobs_of(tmp_path / "jobs.jsonl", text)
