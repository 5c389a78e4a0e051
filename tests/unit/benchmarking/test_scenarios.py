"""What can be measured, and what is refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from portraitanim.benchmarking.apart import decode_scenario, encode_scenario
from portraitanim.benchmarking.scenarios import Scenario, expand, table7
from portraitanim.errors import InputError


def test_every_combination_is_measured_once() -> None:
    made = expand(["tiny", "hallo"], [256, 512], [16], [4, None], ["fp32"], ["cpu"])
    assert len(made) == 8
    assert len({scenario.key for scenario in made}) == 8
    assert len({scenario.label for scenario in made}) == 8


def test_table7_has_each_size_with_and_without_regional_attention() -> None:
    rows = [(row.preset, row.size_px, row.regional_audio) for row in table7()]
    assert rows == [("hallo", size, regional) for size in (256, 512, 1024) for regional in (True, False)]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"preset": "halo"}, "Did you mean hallo"),
        ({"size_px": 250}, "multiple of 8"),
        ({"num_frames": 0}, "--frames"),
        ({"num_repeats": 0}, "--repeats"),
        ({"num_steps": 0}, "--steps"),
        ({"assignments": ("x",)}, "KEY=VALUE"),
        ({"preset": None}, "need a preset"),
        ({"regional_audio": False}, "--weights random"),
        ({"preset": "echomimic", "weights": "random", "regional_audio": False}, "no regional audio attention"),
    ],
)
def test_scenario_that_cannot_be_measured_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scenario(**choices)


def test_network_without_regional_attention_keeps_everything_else() -> None:
    whole = Scenario(preset="hallo", weights="random").network_preset()
    without = Scenario(preset="hallo", weights="random", regional_audio=False).network_preset()
    assert whole.network.denoising_unet.audio_attention_dim == 768
    assert without.network.denoising_unet.audio_attention_dim is None
    assert without.network.reference_unet == whole.network.reference_unet


def test_scenario_survives_the_way_to_its_process() -> None:
    scenario = Scenario(preset="hallo", size_px=256, assignments=("sampling.guidance_scale=1",), num_repeats=5)
    assert decode_scenario(encode_scenario(scenario)) == scenario
