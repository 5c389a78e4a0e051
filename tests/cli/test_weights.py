"""``portraitanim weights`` as a user meets it: output, messages and exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from portraitanim.checkpoints.registry import REGISTRY
from portraitanim.checkpoints.store import WEIGHTS_VARIABLE
from portraitanim.cli.app import EXIT_CODES
from tests import base_folders
from tests import published_folders as published
from tests.cli.outcome import Cli, Outcome
from tests.small_networks import small_preset

ROOT = Path(__file__).resolve().parents[2]
LANDMARKER = REGISTRY["face-landmarker"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(folder))
    return folder


def call_in_new_process(*words: str, cache: Path, **environment: str) -> Outcome:
    """For what is decided when modules are imported, such as the hub's address."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "portraitanim", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env=kept | {"HF_HOME": str(cache)} | environment,
    )
    return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def small_hallo(tmp_path: Path) -> tuple[Path, Path]:
    """A small published folder of Hallo, and the YAML file with its sizes."""
    source = published.write_hallo(tmp_path / "source")
    return source, published.write_preset(tmp_path / "small.yaml", published.hallo_preset())


def is_one_line(text: str) -> bool:
    return text.startswith("error: ") and text.count("\n") == 1 and text.endswith("\n")


def test_help_lists_every_exit_code(cli: Cli) -> None:
    text = cli("--help").out
    assert all(f"{code} {meaning}" in text for code, meaning in EXIT_CODES.items())


def test_version_is_a_result(cli: Cli) -> None:
    outcome = cli("--version")
    assert (outcome.code, outcome.out.split()[0], outcome.err) == (0, "portraitanim", "")


@pytest.mark.parametrize("words", [["weights", "list"], ["weights", "--help"]])
def test_list_and_help_load_no_torch(words: list[str], tmp_path: Path) -> None:
    code = f"import sys; sys.argv[1:] = {words!r}\nfrom portraitanim.__main__ import main\ntry: main()\n"
    code += "except SystemExit: print(sorted({'torch', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    environment = os.environ | {WEIGHTS_VARIABLE: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_list_shows_every_entry_with_its_licence(cli: Cli, store: Path) -> None:
    outcome = cli("weights", "list")
    assert outcome.code == 0
    lines = {line.split()[0]: line for line in outcome.out.splitlines()[1:]}
    assert lines.keys() == REGISTRY.keys()
    assert all(REGISTRY[name].licence in line for name, line in lines.items())
    assert str(store) in outcome.err


def test_list_as_json_is_all_of_stdout(cli: Cli, store: Path) -> None:
    listed = json.loads(cli("weights", "list", "--json").out)
    assert [entry["name"] for entry in listed["weights"]] == list(REGISTRY)
    assert not any(entry["installed"] for entry in listed["weights"])
    assert listed["folder"] == str(store)


def test_no_colours_and_no_bars_where_there_is_no_terminal(cli: Cli, store: Path) -> None:
    outcome = cli("weights", "list")
    assert "\x1b" not in outcome.out + outcome.err


def test_converted_weights_are_installed_listed_and_verified(
    cli: Cli, store: Path, small_hallo: tuple[Path, Path]
) -> None:
    source, config = small_hallo
    converted = cli("weights", "convert", source, "--system", "hallo", "--config", config, "--json")
    assert converted.code == 0, converted.err
    assert json.loads(converted.out)["folder"] == str(store / "hallo")
    listed = json.loads(cli("weights", "list", "--json").out)["weights"]
    assert [entry["name"] for entry in listed if entry["installed"]] == ["hallo"]
    verified = cli("weights", "verify", "--json")
    assert (verified.code, json.loads(verified.out)["intact"]) == (0, True)


def test_damaged_weights_end_with_4_and_name_the_file(cli: Cli, store: Path, small_hallo: tuple[Path, Path]) -> None:
    source, config = small_hallo
    assert cli("weights", "convert", source, "--system", "hallo", "--config", config).code == 0
    path = store / "hallo" / "denoising_unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    outcome = cli("weights", "verify", "hallo")
    assert outcome.code == 4
    assert "denoising_unet/diffusion_pytorch_model.safetensors is damaged" in outcome.err
    as_json = cli("weights", "verify", "hallo", "--json")
    assert (as_json.code, json.loads(as_json.out)["intact"]) == (4, False)


def test_weights_that_are_not_installed_end_with_4(cli: Cli, store: Path) -> None:
    outcome = cli("weights", "verify", "hallo")
    assert outcome.code == 4
    assert "portraitanim weights pull hallo" in outcome.err
    assert is_one_line(outcome.err)


def test_nothing_installed_is_nothing_damaged(cli: Cli, store: Path) -> None:
    assert cli("weights", "verify").code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("damaged", "is damaged"),
        ("missing", "there is no hallo/net.pth"),
        ("other system", "use --system echomimic"),
        ("key too many", "1 not known: conv_in.extra 3"),
        ("wrong shape", "1 of another shape: conv_in.bias is 5, not "),
        ("code", "holds Python objects or code"),
    ],
)
def test_bad_published_folder_ends_with_2_and_leaves_nothing(
    cli: Cli, store: Path, tmp_path: Path, small_hallo: tuple[Path, Path], change: str, words: str
) -> None:
    source, config = small_hallo
    net, trace = source / "hallo" / "net.pth", tmp_path / "trace"
    if change == "damaged":
        net.write_bytes(net.read_bytes()[:5000])
    elif change == "missing":
        net.unlink()
    elif change == "other system":
        source = published.write_echomimic(tmp_path / "other")
    elif change == "key too many":
        torch.save(published.net_pth() | {"face_locator.conv_in.extra": torch.zeros(3)}, net)
    elif change == "wrong shape":
        torch.save(published.net_pth() | {"face_locator.conv_in.bias": torch.zeros(5)}, net)
    else:
        torch.save(published.net_pth() | {"code": _Attack(trace)}, net)
    before = sorted(tmp_path.rglob("*"))
    outcome = cli("weights", "convert", source, tmp_path / "out", "--system", "hallo", "--config", config)
    assert outcome.code == 2
    assert words in outcome.err
    assert is_one_line(outcome.err)
    assert sorted(tmp_path.rglob("*")) == before
    assert not trace.exists()


class _Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "words",
    [
        ["weights", "convert", "."],  # no --system
        ["weights", "convert", "nowhere", "--system", "hallo"],
        ["weights", "convert", ".", "--system", "halo"],
        ["weights", "convert", ".", "--system", "antelopev2"],  # nothing to convert
        ["weights", "convert", ".", "--system", "hallo", "--dtype", "fp8"],
        ["weights", "convert", ".", "--system", "hallo", "--config", "nowhere.yaml"],
        ["weights", "pull", "halo"],
        ["weights", "verify", "halo"],
        ["weights", "grow"],
        ["--no-such-option"],
    ],
)
def test_bad_usage_ends_with_2(cli: Cli, store: Path, words: list[str]) -> None:
    outcome = cli(*words)
    assert outcome.code == 2
    assert outcome.err
    assert not store.exists()


def test_debug_adds_the_traceback(cli: Cli, store: Path) -> None:
    plain, debug = cli("weights", "verify", "hallo"), cli("--debug", "weights", "verify", "hallo")
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert debug.code == plain.code == 4


def test_interrupt_ends_with_130(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the question and never answers
        environment = {
            "HF_HOME": str(tmp_path),
            "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            WEIGHTS_VARIABLE: str(tmp_path / "w"),
        }
        command = [sys.executable, "-m", "portraitanim", "weights", "pull", "face-landmarker"]
        # A shell's background jobs ignore the signal, and so would their children.
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as pulling:
            silent.settimeout(60)
            connection, _ = silent.accept()
            pulling.send_signal(signal.SIGINT)
            _, errors = pulling.communicate(timeout=60)
            connection.close()
    assert pulling.returncode == 130
    assert b"Traceback" not in errors
    assert not (tmp_path / "w").exists()


def test_pull_says_plainly_that_offline_mode_is_on(tmp_path: Path) -> None:
    outcome = call_in_new_process(
        "weights",
        "pull",
        "face-landmarker",
        cache=tmp_path,
        HF_HUB_OFFLINE="1",
        PORTRAITANIM_WEIGHTS=str(tmp_path / "w"),
    )
    assert outcome.code == 1
    assert "offline mode is on (HF_HUB_OFFLINE)" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "w").exists()


def test_pull_says_plainly_that_there_is_no_network(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"  # closed again below: nobody answers there
    outcome = call_in_new_process(
        "weights",
        "pull",
        "face-landmarker",
        cache=tmp_path,
        HF_ENDPOINT=address,
        PORTRAITANIM_WEIGHTS=str(tmp_path / "w"),
    )
    assert outcome.code == 1
    assert f"{address} cannot be reached" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Address of a server that answers as the hub does for the files of the returned dict, by path."""
    files: dict[str, bytes] = {}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def _answer(self, with_body: bool) -> None:
            content = next((data for path, data in files.items() if self.path.endswith(f"/resolve/main/{path}")), None)
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                content = b""
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", files
    server.shutdown()
    server.server_close()


def published_landmarker() -> bytes:
    name = Path(LANDMARKER.files[0]).name
    for parent in ROOT.parents:
        path = parent / "shared" / "weights" / name
        if path.is_file():
            return path.read_bytes()
    pytest.skip(f"shared/weights/{name} absent")


def test_pull_installs_what_the_hub_has(tmp_path: Path, hub: tuple[str, dict[str, bytes]]) -> None:
    address, files = hub
    files[LANDMARKER.files[0]] = published_landmarker()
    places = {"cache": tmp_path / "cache", "PORTRAITANIM_WEIGHTS": str(tmp_path / "w")}
    outcome = call_in_new_process("weights", "pull", "face-landmarker", HF_ENDPOINT=address, **places)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "w" / "face-landmarker"
    assert outcome.out == f"face-landmarker {folder}\n"
    assert (folder / Path(LANDMARKER.files[0]).name).read_bytes() == files[LANDMARKER.files[0]]
    assert json.loads((folder / "portraitanim.json").read_text())["origin"] == f"{LANDMARKER.repo_id}@{COMMIT}"
    assert call_in_new_process("weights", "verify", **places).code == 0
    # Installed weights are not asked for again.
    assert call_in_new_process("weights", "pull", "face-landmarker", HF_HUB_OFFLINE="1", **places).code == 0


def test_pull_refuses_other_bytes_than_were_published(tmp_path: Path, hub: tuple[str, dict[str, bytes]]) -> None:
    address, files = hub
    files[LANDMARKER.files[0]] = b"something else"
    outcome = call_in_new_process(
        "weights",
        "pull",
        "face-landmarker",
        cache=tmp_path,
        HF_ENDPOINT=address,
        PORTRAITANIM_WEIGHTS=str(tmp_path / "w"),
    )
    assert outcome.code == 4
    assert "has other bytes" in outcome.err
    assert not (tmp_path / "w").exists()


def test_pull_shows_the_licence_and_what_the_hub_does_not_have(
    tmp_path: Path, hub: tuple[str, dict[str, bytes]]
) -> None:
    outcome = call_in_new_process(
        "weights", "pull", "antelopev2", cache=tmp_path, HF_ENDPOINT=hub[0], PORTRAITANIM_WEIGHTS=str(tmp_path / "w")
    )
    assert outcome.code == 1
    assert "non-commercial research only" in outcome.err
    assert "moved or removed" in outcome.err


def test_start_for_training_is_made_from_base_weights(cli: Cli, store: Path, tmp_path: Path) -> None:
    preset = small_preset("hallo")
    source = base_folders.write_base(tmp_path / "sd15", preset)
    config = published.write_preset(tmp_path / "small.yaml", preset)
    motion = tmp_path / "mm.ckpt"
    torch.save(base_folders.motion_module(preset), motion)
    options = ["--system", "hallo", "--from-base", "--motion-module", motion, "--config", config]
    made = cli("weights", "convert", source, tmp_path / "start", *options)
    assert made.code == 0, made.err
    assert "Begins fresh (seed 0): audio modules, condition encoder, identity projection" in made.err
    assert (tmp_path / "start" / "model_index.json").is_file()


def test_start_for_training_is_not_installed(cli: Cli, store: Path, tmp_path: Path) -> None:
    outcome = cli("weights", "convert", tmp_path, "--system", "hallo", "--from-base")
    assert outcome.code == 2
    assert "Name the folder to make" in outcome.err


def test_folder_without_a_unet_ends_with_2_and_says_what_is_expected(cli: Cli, store: Path, tmp_path: Path) -> None:
    outcome = cli("weights", "convert", tmp_path, tmp_path / "start", "--system", "hallo", "--from-base")
    assert outcome.code == 2
    assert "there is no unet/diffusion_pytorch_model.safetensors" in outcome.err
    assert is_one_line(outcome.err)
