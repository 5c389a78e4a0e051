"""Weights of the networks that measure: from their published files, strictly, and from plain web servers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from portraitanim.checkpoints import download, file_download, registry
from portraitanim.checkpoints.convert import convert
from portraitanim.checkpoints.evaluators import EVALUATORS
from portraitanim.checkpoints.manifest import git_sha1_of
from portraitanim.checkpoints.registry import REGISTRY
from portraitanim.checkpoints.store import WEIGHTS_VARIABLE
from portraitanim.errors import CheckpointError, DamagedWeightsError, NetworkUnavailableError, PortraitAnimError
from portraitanim.models.evaluators.face_reconstruction import FaceReconstruction
from portraitanim.models.evaluators.inception import InceptionV3
from portraitanim.models.evaluators.loading import MODEL_FILE
from portraitanim.models.evaluators.lpips import Lpips
from portraitanim.models.evaluators.syncnet import SyncNet
from portraitanim.progress import SilentProgress


def _random_weights(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    with torch.device("meta"):
        state = build().state_dict()
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else torch.tensor(1)
        for key, value in state.items()
    }


def _lpips_files(folder: Path) -> dict[str, Tensor]:
    """The two published files of LPIPS with AlexNet; returns what the network loads."""
    folder.mkdir()
    weights = _random_weights(lambda: Lpips("alex"))
    heads = {key: value for key, value in weights.items() if key.startswith("lin")}
    trunk = {key: value for key, value in weights.items() if not key.startswith("lin")}
    torch.save(heads, folder / "alex.pth")
    torch.save(trunk | {"classifier.1.weight": torch.ones(2, 2)}, folder / "alexnet-owt-7be5be79.pth")
    return weights


def test_every_evaluator_of_the_registry_can_be_converted() -> None:
    assert set(EVALUATORS) == {name for name, entry in REGISTRY.items() if entry.urls}


def test_two_files_of_lpips_become_one(tmp_path: Path) -> None:
    weights = _lpips_files(tmp_path / "published")
    convert("lpips-alex", tmp_path / "published", tmp_path / "ours")
    written = load_file(tmp_path / "ours" / MODEL_FILE)
    Lpips("alex").load_state_dict(written)
    assert all(torch.equal(written[key], value) for key, value in weights.items())


def test_old_inception_files_have_no_counters_and_class_scores_are_left_out(tmp_path: Path) -> None:
    weights = _random_weights(InceptionV3)
    old = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    torch.save(
        old | {"fc.weight": torch.ones(3, 2), "fc.bias": torch.ones(3)},
        tmp_path / "weights-inception-2015-12-05-6726825d.pth",
    )
    convert("inception-2015", tmp_path, tmp_path / "ours")
    InceptionV3().load_state_dict(load_file(tmp_path / "ours" / MODEL_FILE))


def test_training_state_beside_the_reconstruction_network_is_left_out(tmp_path: Path) -> None:
    weights = _random_weights(FaceReconstruction)
    torch.save(
        {"net_recon": weights, "opt_00": {"state": {0: torch.ones(1)}}, "sched_00": {}}, tmp_path / "epoch_20.pth"
    )
    convert("deep3d-recon", tmp_path, tmp_path / "ours")
    FaceReconstruction().load_state_dict(load_file(tmp_path / "ours" / MODEL_FILE))


def test_syncnet_with_a_layer_missing_is_refused(tmp_path: Path) -> None:
    weights = _random_weights(SyncNet)
    del weights["netfclip.3.bias"]
    torch.save(weights, tmp_path / "syncnet_v2.model")
    with pytest.raises(CheckpointError, match=r"missing: netfclip\.3\.bias 1024"):
        convert("syncnet-v2", tmp_path, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no sfd_face\.pth of s3fd"):
        convert("s3fd", tmp_path, tmp_path / "ours")


def test_git_sha1_is_that_of_git(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello\n")
    assert git_sha1_of(tmp_path / "file") == "ce013625030ba8dba906f756967f9e9ca394464a"


class _Server:
    """Serves files, knows ranges, and can hang up after some bytes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.hang_up_after, self.ranges = files, 1 << 60, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = server.files.get(self.path.lstrip("/"))
                if content is None:
                    self.send_error(404)
                    return
                wanted = self.headers.get("Range")
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                server.ranges.append(start)
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : start + server.hang_up_after])

            def log_message(self, *args: object) -> None:
                del args

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def lpips_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """A server with the files of lpips-alex, to which the registry's entry leads."""
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "store"))
    _lpips_files(tmp_path / "published")
    files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    server = _Server(files)
    entry = replace(
        REGISTRY["lpips-alex"],
        urls={name: f"{server.url}/{name}" for name in REGISTRY["lpips-alex"].files},
        sha256={name: hashlib.sha256(content).hexdigest()[:8] for name, content in files.items()},
    )
    for module in (registry, download):
        monkeypatch.setattr(module, "REGISTRY", {**REGISTRY, "lpips-alex": entry})
    yield server
    server.http.shutdown()


def test_pull_from_a_web_server_installs_and_leaves_no_download(lpips_server: _Server, tmp_path: Path) -> None:
    folder = download.pull("lpips-alex")
    Lpips("alex").load_state_dict(load_file(folder / MODEL_FILE))
    assert not (tmp_path / "store" / "downloads" / "lpips-alex").exists()


def test_a_broken_download_goes_on_where_it_stopped(lpips_server: _Server) -> None:
    lpips_server.hang_up_after = 1000
    with pytest.raises(NetworkUnavailableError, match="goes on where it stopped"):
        download.pull("lpips-alex")
    lpips_server.hang_up_after = 1 << 60
    download.pull("lpips-alex")
    assert lpips_server.ranges == [0, 1000, 0]


def test_other_bytes_than_known_are_refused_and_not_kept(lpips_server: _Server) -> None:
    good = lpips_server.files["alex.pth"]
    lpips_server.files["alex.pth"] = good[:-1] + b"x"
    with pytest.raises(DamagedWeightsError, match=r"alex\.pth .* has other bytes"):
        download.pull("lpips-alex")
    lpips_server.files["alex.pth"] = good
    download.pull("lpips-alex")


def test_a_file_that_was_moved_away_is_said_with_what_to_do(lpips_server: _Server) -> None:
    lpips_server.files.clear()
    with pytest.raises(PortraitAnimError, match=r"answers 404 .* weights convert FOLDER --system lpips-alex"):
        download.pull("lpips-alex")


def test_no_server_is_a_network_error(lpips_server: _Server, tmp_path: Path) -> None:
    lpips_server.http.server_close()
    entry = replace(registry.find_entry("lpips-alex"), urls={"alex.pth": "http://127.0.0.1:9/alex.pth"})
    with pytest.raises(NetworkUnavailableError, match="cannot be reached"):
        file_download.download_file(entry, "alex.pth", SilentProgress())
