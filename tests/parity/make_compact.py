"""Write the compact copy of the goldens that the repository carries: ``python -m tests.parity.make_compact``.

The full goldens are some 41 MB; a clone without them must still prove each network, the scheduler tables, one pipeline
run of each system, the masks, the audio features, and how features are compared. File names stay; files hold fewer
tensors; a test that asks for one of the others is skipped by name.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.goldens import COMPACT_ROOT, SYSTEMS, Golden, all_files, golden_folder, is_compact

# Per file: which tensors are kept; None keeps the file as it is. Files that are not named are left out.
KEEP: dict[str, str | None] = {
    "hallo/small_config.json": None,
    "hallo/weights_recipe.json": None,
    "hallo/bank_pairs.json": None,
    "hallo/keys_full.json": None,
    "hallo/keys_motion_module_full.json": None,
    "hallo/keys_vae_full.json": None,
    "hallo/wav2vec_tiny_config.json": None,
    "hallo/w_wav2vec_tiny.safetensors": None,
    # Not the pictures of the face locator and the autoencoder: the pipeline run reads through both.
    "hallo/io_modules.safetensors": r"audio.*|imageproj.*|sched.*",
    # Of the large features the last, which no error before it leaves untouched.
    "hallo/io_reference_bank.safetensors": (
        r"ref\.latents.*|ref\.enc.*|bank\.(down_blocks\.[12]|mid|up_blocks\.1).*|bank\.up_blocks\.3\.attentions\.2.*"
    ),
    "hallo/io_denoise.safetensors": (
        r"f3\..*|f4\.(?!out).*|f4\.out\.official\.t(24|666)|f4\.out\.bank_fp32\..*|f4\.out\.(trainstyle|EVALMODE).*"
    ),
    "hallo/io_denoise_activations_f4_bank_fp32_t666.safetensors": r"down_blocks\.[0-3]|mid_block|up_blocks\.0",
    "hallo/io_pipeline.safetensors": r"in\..*|(official|bank_fp32)\.latents_per_step\.clip0",
    "hallo/io_train_forward_batch2.safetensors": None,
    "hallo/io_masks_wav2vec.safetensors": r"w2v.*|(sq|edge)\.(?!.*(img512|train)).*|sq\.train\.(frames|union).*",
    "echomimic/small_config.json": None,
    "echomimic/weights_recipe.json": None,
    "echomimic/keys_full.json": None,
    "echomimic/fullsize_summary.json": None,
    "echomimic/g_reference.safetensors": r"latent|timestep|bank/.*",
    "echomimic/g_denoise.safetensors": (
        r"latent|audio|mask_fea|odd_.*|out_odd.*|out_mask_cfg_t(500_bank(16|32)|999_bank32)|out_mask_nocfg_t999_bank32"
    ),
    "echomimic/g_pipe_inputs.safetensors": r"ref_image|whisper_feature|face_mask",
    "echomimic/g_pipe_audio.safetensors": (
        r"alphas_cumprod|timesteps|windows_per_step|noise_raw|latent_init|ref_latent_mean_scaled|bank32/latent_after_2"
    ),
    "echomimic/audio/audio_facts.json": None,
    "echomimic/audio/synthetic_16k.wav": None,
    "echomimic/audio/g_audio.safetensors": r"short_(mel|feat|idx.*)",
    "echomimic/audio/g_whisper_tiny_fullsize_hashweights.safetensors": None,
    "echomimic/motion/motion_facts.json": None,
    "echomimic/motion/face_crop.json": None,
    "echomimic/motion/pose_pkl.npz": None,
    "echomimic/motion/landmark_maps.npz": r"pkl.*",
    "metrics/frechet_expected.json": None,
    "metrics/frechet_inputs.safetensors": r"(n2_n2_d5|n120_n90_d16|same_d32)\..*",
    "metrics/syncnet.json": None,
    "metrics/syncnet_clip.npz": r"audio_i16",
    "metrics/syncnet_crop.npz": r"bbox|s|x|y|rect_pad_y0_y1_x0_x1",
    "metrics/syncnet_expected.safetensors": r"mfcc",
    "metrics/inception_keys.json": None,
    "metrics/i3d_keys.json": None,
    "metrics/s3fd_keys.json": None,
    "metrics/deep3d_keys.json": None,
    "metrics/deep3d_inputs.npz": r"pts5",
    "metrics/deep3d_expected.safetensors": r"lm3d_5|trans_params",
}

_SHORT_CLIP_SAMPLES = 2 * 16000 + 333  # as audio_facts.json says


def main() -> None:
    """Write ``tests/parity/data`` anew."""
    if any(is_compact(system) for system in SYSTEMS):
        sys.exit("The full goldens are not here: a compact copy cannot be made from a compact copy.")
    shutil.rmtree(COMPACT_ROOT, ignore_errors=True)
    unknown = set(KEEP) - {f"{system}/{name}" for system in SYSTEMS for name in all_files(system)}
    if unknown:
        sys.exit(f"No such golden files: {sorted(unknown)}")
    for file, pattern in KEEP.items():
        system, name = file.split("/", 1)
        target = COMPACT_ROOT / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".wav":
            _cut_wave(golden_folder(system) / name, target)
        elif pattern is None:
            shutil.copyfile(golden_folder(system) / name, target)
        else:
            _keep_tensors(Golden(system, name), pattern, target)
        print(f"{target.stat().st_size:>9,}  {file}")
    print(f"{sum(path.stat().st_size for path in COMPACT_ROOT.rglob('*') if path.is_file()):>9,}  in all")


def _keep_tensors(golden: Golden, pattern: str, target: Path) -> None:
    kept = {name: np.asarray(golden[name], order="C") for name in sorted(golden) if re.fullmatch(pattern, name)}
    if target.suffix == ".npz":
        np.savez_compressed(target, **kept)
    else:
        save_file(kept, target)


def _cut_wave(source: Path, target: Path) -> None:
    """The first seconds of the wave, which are what the goldens named ``short_`` were computed from."""
    import wave

    with wave.open(str(source), "rb") as whole, wave.open(str(target), "wb") as short:
        short.setparams(whole.getparams())
        short.writeframes(whole.readframes(_SHORT_CLIP_SAMPLES))


if __name__ == "__main__":
    main()
