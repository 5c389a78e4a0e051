"""Full size is real: one denoising step of full-size Hallo with random weights, on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

# In a process of its own, so that its peak memory is its own.
STEP = """
    import json, resource, time
    import torch
    from portraitanim.config.presets import load_preset
    from portraitanim.pipelines.build import build_pipeline
    from portraitanim.types import PortraitConditioning, RegionMasks

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)  # so that no float32 copy of the weights ever exists
    pipe = build_pipeline(load_preset("hallo", {"sampling": {"num_frames_per_clip": 2, "num_motion_frames": 2}}))
    for module in (pipe.denoising_unet, pipe.reference_unet):
        for parameter in module.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.01)
    size = 256
    given = PortraitConditioning(
        reference_image=torch.rand(1, 3, size, size) * 2 - 1,
        audio_windows=torch.randn(1, 2, 5, 12, 768),
        condition_map=torch.rand(1, 1, 3, size, size),
        identity_embedding=torch.randn(1, 512),
        region_masks=RegionMasks(levels=tuple(torch.rand(1, 1, 3, (32 >> level) ** 2) for level in range(4))),
    )
    start = time.perf_counter()
    frames = pipe(given, num_inference_steps=1, output_type="latent").frames
    print(json.dumps({
        "seconds": time.perf_counter() - start,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "shape": list(frames.shape),
        "finite": bool(frames.isfinite().all()),
        "parameters": sum(p.numel() for m in (pipe.denoising_unet, pipe.reference_unet) for p in m.parameters()),
    }))
"""


@pytest.mark.slow
def test_one_step_of_full_size_hallo_fits_into_16_gib() -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STEP)], capture_output=True, text=True, check=False, timeout=1200
    )
    assert run.returncode == 0, run.stderr[-2000:]
    result = json.loads(run.stdout.splitlines()[-1])
    print(result)
    assert result["shape"] == [1, 2, 4, 32, 32]
    assert result["finite"]
    assert result["parameters"] > 2.1e9
    assert result["peak_gib"] < 16
