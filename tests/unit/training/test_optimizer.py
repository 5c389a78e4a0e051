from __future__ import annotations

import pytest
import torch

from portraitanim.config.recipes import load_recipe
from portraitanim.config.training import EngineConfig
from portraitanim.errors import ConfigError
from portraitanim.training.optimizer import choose_trainable, learning_rate, make_optimizer
from tests.small_networks import small_pipeline


@pytest.mark.parametrize(("system", "stage"), [("hallo", "1"), ("hallo", "2"), ("echomimic", "1"), ("echomimic", "2")])
def test_recipes_train_what_the_papers_train(system: str, stage: str) -> None:
    network = small_pipeline(system).network
    learning = choose_trainable(network, load_recipe(system, stage).trainable)
    temporal = [name for name in learning if "motion_modules" in name]
    audio = [name for name in learning if "audio" in name or "attn2" in name]
    assert bool(temporal) == (stage == "2")
    if system == "hallo":
        assert bool([name for name in learning if "audio_" in name]) == (stage == "2")
        assert any(name.startswith("reference_unet.") for name in learning) == (stage == "1")
    else:
        assert bool(audio) == (stage == "1")
    assert [name for name, parameter in network.named_parameters() if parameter.requires_grad] == learning


def test_exclusion_wins() -> None:
    network = small_pipeline("tiny").network
    learning = choose_trainable(network, ["denoising_unet.*", "!*audio_modules*"])
    assert learning
    assert not [name for name in learning if "audio_modules" in name or not name.startswith("denoising_unet.")]


def test_pattern_without_a_parameter_is_an_error() -> None:
    with pytest.raises(ConfigError, match="motion_module2"):
        choose_trainable(small_pipeline("tiny").network, ["*", "!*motion_module2*"])


@pytest.mark.parametrize(("name", "numbers_each"), [("adamw", 2.0), ("adafactor", 0.05), ("sgd", 0.0)])
def test_optimizers_keep_as_much_as_the_config_says_and_descend(name: str, numbers_each: float) -> None:
    torch.manual_seed(0)
    layer, values = torch.nn.Linear(64, 64, bias=False), torch.randn(32, 64)
    optimizer = make_optimizer(list(layer.parameters()), EngineConfig(optimizer=name, learning_rate=0.01))
    losses = []
    for _ in range(20):
        loss = (layer(values) - values).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    state = optimizer.state_dict()["state"]
    kept = sum(v.numel() for entries in state.values() for v in entries.values() if torch.is_tensor(v) and v.dim())
    assert kept <= numbers_each * layer.weight.numel()


def test_learning_rate_warms_up_and_falls() -> None:
    config = EngineConfig(
        num_steps=110, learning_rate=1.0, warmup_steps=10, decay="cosine", final_learning_rate_ratio=0.1
    )
    rates = [learning_rate(step, config) for step in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert learning_rate(50, EngineConfig(num_steps=100, learning_rate=2.0)) == 2.0
