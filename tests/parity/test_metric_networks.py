"""The evaluator networks and their inputs against the published code, on the goldens' random weights."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from portraitanim.face.identity import _aligned
from portraitanim.models.evaluators import inception, lpips, s3fd
from portraitanim.models.evaluators.face_reconstruction import EXPRESSION, FaceReconstruction
from portraitanim.models.evaluators.i3d import I3D
from portraitanim.models.evaluators.inputs import FID_FLAVOURS, i3d_input, inception_input, resized_for_inception
from portraitanim.models.evaluators.reconstruction_input import cut_face, fit_face
from portraitanim.models.evaluators.syncnet import SyncNet
from tests.goldens import Golden, load, load_json, metric_shapes, metric_weights
from tests.parity.compare import assert_close
from tests.weight_recipes import metric_recipe

_CLIPS = ("a_16x224", "b_16x256x320", "c_10x128", "d_face16")
_NETWORKS = {
    "inception": (inception.InceptionV3, {"fc.weight", "fc.bias"}),
    "i3d": (I3D, set()),
    "syncnet": (SyncNet, set()),
    "deep3d": (FaceReconstruction, set()),
    "s3fd": (s3fd.S3FD, set()),
}


def _loaded(network: nn.Module, tag: str) -> nn.Module:
    weights = metric_weights(tag)
    network.load_state_dict({key: value for key, value in weights.items() if key not in _NETWORKS[tag][1]})
    return network.eval()


@lru_cache(maxsize=1)
def _inception() -> nn.Module:
    return _loaded(inception.InceptionV3(), "inception")


@lru_cache(maxsize=1)
def _i3d_weights() -> dict[str, Tensor]:
    return metric_weights("i3d")


def _i3d(eps: float, pool_frames: int) -> I3D:
    network = I3D(eps=eps, pool_frames=pool_frames)
    network.load_state_dict(_i3d_weights())
    return network.eval()


def _clip(name: str) -> np.ndarray:
    """uint8 RGB ``(frames, 3, height, width)``."""
    if name == "d_face16":
        frames = Golden("metrics", "syncnet_clip.npz")["frames_bgr"][20:36, ..., ::-1]
    else:
        frames = Golden("metrics", "i3d_clips.npz")[name]
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("tag", _NETWORKS)
def test_network_has_the_published_keys_and_shapes(tag: str) -> None:
    kind, unused = _NETWORKS[tag]
    with torch.device("meta"):
        ours = {key: list(value.shape) for key, value in kind().state_dict().items()}
    assert ours == {key: shape for key, shape in metric_shapes(tag).items() if key not in unused}


@pytest.mark.parametrize("flavour", FID_FLAVOURS)
def test_resize_for_inception(flavour: str) -> None:
    image = Golden("metrics", "inception_images.npz")["i512"].transpose(2, 0, 1)[None]
    name = {"pytorch-fid": "pytorch_fid_x255", "torch-fidelity": "tf1", "clean-fid": "clean"}[flavour]
    golden = Golden("metrics", "inception_resize_tiles.safetensors")[f"i512.{name}.tile"]
    assert_close(resized_for_inception(image, flavour)[:, :, :96, :96], golden, 2e-5)


@pytest.mark.parametrize("flavour", FID_FLAVOURS)
@pytest.mark.parametrize("name", ["i256", "i512", "i299", "i100x180", "i720x540"])
def test_inception_features(name: str, flavour: str) -> None:
    image = Golden("metrics", "inception_images.npz")[name].transpose(2, 0, 1)[None]
    golden = Golden("metrics", "inception_expected.safetensors")[f"{name}.{flavour.replace('-', '_')}"]
    assert_close(_inception()(inception_input(image, flavour)), golden, 5e-5)


def test_i3d_scores() -> None:
    graph, disco = _i3d(1e-3, 2), _i3d(1e-3, 1)
    golden = Golden("metrics", "i3d_expected.safetensors")
    for name in _CLIPS:
        features = graph.features(i3d_input(_clip(name))[None])
        for network, output in ((graph, "piergiaj_timemean"), (disco, "disco_avg1")):
            expected = golden[f"{name}.direct.logits_eps1e-3_{output}"]
            torch.testing.assert_close(network.scores(features), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.reads("metrics/i3d_expected.safetensors")
def test_i3d_of_videogpt_its_other_resize_and_its_wrong_range() -> None:
    network, golden = _i3d(1e-5, 2), Golden("metrics", "i3d_expected.safetensors")
    for name in _CLIPS:
        clip, direct = _clip(name), i3d_input(_clip(name))[None]
        features = network.features(direct)
        pooled = nn.functional.avg_pool3d(features, (2, 7, 7), stride=1).mean(dim=(2, 3, 4))
        wrong_range = network((direct + 1) / 2)
        for ours, output in (
            (network.scores(features), "direct.logits_eps1e-5"),
            (pooled, "direct.pooled1024_eps1e-5"),
            (network(i3d_input(clip, "short-side")[None]), "short.logits_eps1e-5"),
            (wrong_range, "direct.logits_eps1e-5_input01_bug"),
        ):
            torch.testing.assert_close(ours, golden[f"{name}.{output}"], rtol=1e-4, atol=1e-4)
        assert (network.scores(features) - wrong_range).norm() > 0.3 * wrong_range.norm()


def test_i3d_of_disco() -> None:
    network, golden = _i3d(1e-3, 1), Golden("metrics", "i3d_disco_expected.safetensors")
    for name in ("a_16x224", "b_16x256x320", "c_10x128"):
        scores = network(i3d_input(_clip(name), "disco")[None])
        torch.testing.assert_close(scores, golden[name], rtol=1e-4, atol=1e-4)
    frames = Golden("metrics", "syncnet_clip.npz")["frames_bgr"][:24, ..., ::-1].transpose(0, 3, 1, 2)
    clip = i3d_input(np.ascontiguousarray(frames), "disco")
    torch.testing.assert_close(network(clip[None]), golden["face_24f_whole"], rtol=1e-4, atol=1e-4)
    windows = network(torch.stack([clip[start : start + 16] for start in (0, 1, 8)]))
    torch.testing.assert_close(windows, golden["face_win16_stride1_0_1_8"], rtol=1e-4, atol=1e-4)


def test_syncnet_vectors() -> None:
    network, golden = _loaded(SyncNet(), "syncnet"), Golden("metrics", "syncnet_expected.safetensors")
    frames = torch.from_numpy(Golden("metrics", "syncnet_clip.npz")["frames_bgr"]).permute(0, 3, 1, 2).float()
    mfcc = golden["mfcc"].T.float()
    lips = torch.cat([network.lips(frames[start : start + 5][None]) for start in range(70)])
    sound = network.audio(torch.stack([mfcc[:, 4 * start : 4 * start + 20] for start in range(70)]))
    torch.testing.assert_close(lips, golden["lip_feat"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sound, golden["aud_feat"], rtol=1e-4, atol=1e-4)
    probe = Golden("metrics", "syncnet_probe.safetensors")
    for number, start in enumerate((0, 30)):
        picture = network.netcnnlip(frames[start : start + 5].transpose(0, 1)[None]).flatten()
        heard = network.netcnnaud(mfcc[None, None, :, 4 * start : 4 * start + 20]).flatten()
        torch.testing.assert_close(picture, probe["lipfeat512_w0_w30"][number], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(heard, probe["audcnn512_w0_w30"][number], rtol=1e-4, atol=1e-4)


def test_faces_are_cut_and_reconstructed() -> None:
    network, inputs = _loaded(FaceReconstruction(), "deep3d"), Golden("metrics", "deep3d_inputs.npz")
    golden, crops = Golden("metrics", "deep3d_expected.safetensors"), []
    for number in range(3):
        image, points = inputs[f"im{number}"], inputs["pts5"][number]
        fit = fit_face(points, image.shape[1], image.shape[0])
        crops.append(cut_face(image.transpose(2, 0, 1), fit))
        # The five points in the crop, y counted from its lower edge.
        upward = np.stack([points[:, 0], image.shape[0] - 1 - points[:, 1]], axis=1)
        place = (upward - (fit.x_px, fit.y_px) + np.array([fit.width_px, fit.height_px]) / 2) * fit.scale
        size = np.array([int(fit.width_px * fit.scale), int(fit.height_px * fit.scale)])
        np.testing.assert_allclose(place - (size / 2 - 112), golden["lm_aligned"][number].numpy(), atol=1)
    assert np.array_equal(np.stack(crops), inputs["crops"].transpose(0, 3, 1, 2))
    coefficients = network(torch.from_numpy(np.stack(crops)).float() / 255)
    torch.testing.assert_close(coefficients, golden["coeffs257"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(coefficients[:, EXPRESSION], golden["exp64"], rtol=1e-4, atol=1e-4)


def test_place_of_a_face_for_its_reconstruction() -> None:
    golden, points = Golden("metrics", "deep3d_expected.safetensors"), Golden("metrics", "deep3d_inputs.npz")["pts5"]
    for five, expected in zip(points, golden["trans_params"].numpy(), strict=True):
        fit = fit_face(five, int(expected[0]), int(expected[1]))
        np.testing.assert_allclose([fit.scale, fit.x_px, fit.y_px], expected[2:], rtol=1e-12)
    from portraitanim.models.evaluators.reconstruction_input import _MEAN_FACE

    assert np.array_equal(_MEAN_FACE, golden["lm3d_5"].numpy())


def test_s3fd_boxes() -> None:
    network, golden = _loaded(s3fd.S3FD(), "s3fd"), Golden("metrics", "s3fd.npz")
    image = golden["image_rgb"].transpose(2, 0, 1)
    pixels = s3fd.detector_input(image)
    assert np.array_equal(pixels.numpy(), golden["input_chw"])
    raw = network(pixels[None])
    torch.testing.assert_close(raw.offsets, torch.from_numpy(golden["loc"]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(raw.scores, torch.from_numpy(golden["conf_softmax"]), rtol=1e-4, atol=1e-6)
    assert_close(raw.priors, torch.from_numpy(golden["priors"]), 1e-7)
    # The first six scores are all 1: which comes first among them is chance, which are kept is not.
    expected = golden["detections_xyxy_score"][golden["kept_after_nms01_conf09"]]
    found = s3fd.detect_faces(network, image)
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected.tolist()), rtol=1e-4)


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_lpips(trunk: lpips.LpipsTrunk) -> None:
    network = lpips.Lpips(trunk)
    shapes = {key: list(value.shape) for key, value in network.state_dict().items() if key.startswith("features")}
    heads = Golden("metrics", "lpips_heads_v0.1.safetensors")
    weights = {match[1]: heads[match[0]] for match in heads.matching(rf"{trunk}\.(.*)")}
    network.load_state_dict(metric_recipe(f"lpips_{trunk}", shapes) | weights)
    golden, frames = load_json("metrics", "lpips_expected.json")[trunk], load("metrics", "ssim_psnr_frames.npz")
    first, second = (torch.from_numpy(frames[side]).permute(0, 3, 1, 2).float() for side in "ab")
    layers = torch.stack(network.per_layer(first / 127.5 - 1, second / 127.5 - 1))
    torch.testing.assert_close(layers, torch.tensor(golden["per_layer"]), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(layers.sum(dim=0), torch.tensor(golden["dist"]), rtol=1e-4, atol=1e-8)
    wrong = network(first / 255, second / 255)
    torch.testing.assert_close(wrong, torch.tensor(golden["dist_input01_bug"]), rtol=1e-4, atol=1e-8)
    assert {key: list(value.shape) for key, value in weights.items()} == golden["head_keys"]


def test_faces_are_aligned_for_their_identity() -> None:
    images, golden = Golden("metrics", "deep3d_inputs.npz"), Golden("metrics", "csim.npz")
    for number in range(3):
        aligned = _aligned(images[f"im{number}"], golden["pts5"][number]).astype(int)
        difference = np.abs(aligned - golden["aligned112"][number])
        # OpenCV rounds places to 1/32 pixel: a transform that is off by 1e-5 moves a pixel by one such step.
        assert difference.max() <= 3
        assert difference.mean() < 1e-3
