"""``portraitanim animate`` as a user meets it: output, messages, exit codes, batches and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from portraitanim.cli.app import run
from portraitanim.media.audio import save_audio
from portraitanim.media.image import load_image, save_image
from portraitanim.media.video import probe_video
from portraitanim.types import AudioTrack
from tests.examples import PORTRAIT, ROOT, SPEECH
from tests.small_weights import small_weights

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    small_weights(folder)
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs ``animate`` in this process with small weights, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object, own_weights: bool = True) -> tuple[int, str, str]:
        chosen = ["--weights", str(weights), "--device", "cpu", "--dtype", "fp32"] if own_weights else []
        with pytest.raises(SystemExit) as stopped:
            run(["animate", *map(str, words), *chosen])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def test_video_is_named_after_portrait_and_sound(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli(PORTRAIT, SPEECH, "--duration", 0.2)
    assert code == 0
    assert out == "portrait-speech.mp4\n", "stdout is the file's name alone, for scripts"
    assert "seed 42" in err
    assert probe_video(tmp_path / "portrait-speech.mp4").fps == 25


def test_json_has_the_numbers(cli: Cli) -> None:
    code, out, _ = cli(PORTRAIT, SPEECH, "--duration", 0.2, "--json", "--seed", 5, "--lip-weight", 1.2)
    values = json.loads(out)
    assert (code, values["num_frames"], values["seed"]) == (0, 5, 5)
    assert values["peak_host_bytes"] > 1e8


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "No portrait is given"),
        (["none.jpg", SPEECH], 2, "none.jpg does not exist"),
        ([PORTRAIT, "none.wav"], 2, "none.wav does not exist"),
        ([PORTRAIT], 2, "Nothing drives"),
        ([PORTRAIT, SPEECH, "--size", "250"], 2, "Use 248 or 256"),
        ([PORTRAIT, SPEECH, "--parts", "ears"], 2, "Unknown face part 'ears'"),
        ([PORTRAIT, SPEECH, "--mode", "landmarks"], 2, "--mode landmarks needs --driving"),
        ([PORTRAIT, SPEECH, "--mode", "sing"], 2, "mode must be one of"),
        ([PORTRAIT, SPEECH, "--guidance", "2", "--audio-guidance", "3"], 2, "sets both scales"),
        ([PORTRAIT, SPEECH, "--set", "sampling.seeed=1"], 2, "Did you mean sampling.seed"),
        ([PORTRAIT, SPEECH, "--lip-weight", "nan"], 2, "--lip-weight must be from 0 to 10"),
        ([PORTRAIT, SPEECH, "--start", "999"], 2, "999"),
        ([PORTRAIT, SPEECH, "--face", "3"], 3, "--face 3 was asked for"),
        ([PORTRAIT, SPEECH, "--offload"], 2, "--offload has no effect on cpu"),
        ([PORTRAIT, SPEECH, "-o", "talk.xyz"], 2, "talk.xyz"),
        ([PORTRAIT, SPEECH, "--crf", "99"], 2, "99"),
    ],
)
def test_mistake_is_one_line_that_helps(cli: Cli, tmp_path: Path, words: list, code: int, message: str) -> None:
    got, out, err = cli(*words)
    assert (got, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_check_judges_without_making_anything(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli(PORTRAIT, SPEECH, "--check", "--json")
    values = json.loads(out)
    assert (code, values["overall"]) == (0, "yes")
    assert {finding["name"] for finding in values["picture"]["findings"]} >= {"face size", "yaw", "sharpness"}
    assert not list(tmp_path.iterdir())


def test_check_says_no_to_silence(cli: Cli, tmp_path: Path) -> None:
    silence = AudioTrack(samples=np.zeros((1, 32000), np.float32), sample_rate_hz=16000)
    save_audio(silence, tmp_path / "silence.wav")
    code, out, err = cli(PORTRAIT, "silence.wav", "--check")
    assert code == 2
    assert "Fit to be animated: no." in out
    assert "The sound is not fit" in err


def test_doubts_are_said_before_the_wait(cli: Cli) -> None:
    code, _, err = cli(PORTRAIT, SPEECH, "--duration", 0.04, "--size", 512)
    assert code == 0
    assert "warning: picture, face size" in err


def test_unknown_weights_are_named(cli: Cli) -> None:
    code, _, err = cli(PORTRAIT, SPEECH, "--weights", "halo", own_weights=False)
    assert (code, "'halo'" in err) == (2, True)


def test_missing_weights_say_how_to_get_them(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTRAITANIM_WEIGHTS", str(tmp_path / "none"))
    code, _, err = cli(PORTRAIT, SPEECH, "--weights", "hallo", own_weights=False)
    assert code == 4
    assert "portraitanim weights pull hallo" in err


def test_batch_goes_on_after_a_bad_row(cli: Cli, tmp_path: Path) -> None:
    save_image(np.zeros((3, 64, 64), np.uint8), tmp_path / "black.png")
    rows = [
        "portrait,audio,output,duration,lip-weight",
        f"{PORTRAIT},{SPEECH},a.mp4,0.2,1.5",
        f"black.png,{SPEECH},b.mp4,,",
        f"{PORTRAIT},none.wav,c.mp4,,",
        f"{PORTRAIT},{SPEECH},d.mp4,0.12,",
    ]
    (tmp_path / "jobs.csv").write_text("\n".join(rows), encoding="utf-8")
    code, out, err = cli("--batch", "jobs.csv", "--json")
    outcomes = json.loads(out)
    assert [row["status"] for row in outcomes] == ["done", "failed", "failed", "done"]
    assert "No face in black.png" in outcomes[1]["message"]
    assert "2 of 4 jobs failed" in err
    assert code == 6
    assert outcomes[0]["result"]["num_frames"] == 5

    code, out, _ = cli("--batch", "jobs.csv", "--json", "--resume")
    assert [row["status"] for row in json.loads(out)] == ["skipped", "failed", "failed", "skipped"]


def test_batch_of_json_lines(cli: Cli, tmp_path: Path) -> None:
    row = {"portrait": str(PORTRAIT), "audio": str(SPEECH), "output": "x.mp4", "duration": 0.08, "seed": 3}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    code, out, _ = cli("--batch", "jobs.jsonl")
    assert (code, "x.mp4" in out) == (0, True)


def start(folder: Path, weights: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "portraitanim", "animate", str(PORTRAIT), str(SPEECH), "--weights", str(weights)]
    return subprocess.Popen(
        [*command, "--dtype", "fp32", "--device", "cpu", "-o", str(folder / "frames"), "--duration", "2", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_clips(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    while len(list(folder.glob("frames.work/clip-*.safetensors"))) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_killed_run_resumes_with_the_same_frames(number: int, weights: Path, tmp_path: Path, cli: Cli) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    process = start(cut, weights)
    wait_for_clips(cut, 2, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert not (cut / "frames").exists()
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "--resume" in err
    # What is not killed needs no process of its own.
    for folder, words in ((cut, ("--resume",)), (whole, ())):
        code, _, err = cli(PORTRAIT, SPEECH, "-o", folder / "frames", "--duration", 2, *words)
        assert code == 0, err
    names = [path.name for path in sorted((whole / "frames").iterdir())]
    assert len(names) == 50
    for name in names:
        assert np.array_equal(load_image(whole / "frames" / name), load_image(cut / "frames" / name)), name
    assert sorted(path.name for path in cut.iterdir()) == ["frames", "frames.json"]
