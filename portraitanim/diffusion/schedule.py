"""The noise schedule of both systems, walked by any diffusers scheduler that fits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portraitanim.config.schema import SchedulerConfig
from portraitanim.errors import ConfigError

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin


def make_scheduler(config: SchedulerConfig | None = None) -> SchedulerMixin:
    """Build the scheduler that ``config.name`` says, on the schedule that ``config`` says.

    The schedule is v-prediction with zero terminal signal-to-noise ratio and trailing timesteps (arXiv 2305.08891):
    the first step starts from pure noise. ``ddim`` is what both systems published; ``dpm++2m``, ``unipc`` and
    ``euler`` need fewer steps with the same weights; ``lcm`` and ``tcd`` need weights that were distilled for them.
    """
    from diffusers import schedulers

    config = config or SchedulerConfig()
    schedule: dict[str, Any] = {
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "num_train_timesteps": config.num_train_timesteps,
        "prediction_type": config.prediction_type,
        "rescale_betas_zero_snr": config.rescale_betas_zero_snr,
        "timestep_spacing": config.timestep_spacing,
    }
    if config.name == "dpm++2m":
        return schedulers.DPMSolverMultistepScheduler(**schedule, algorithm_type="dpmsolver++", solver_order=2)
    if config.name == "unipc":
        return schedulers.UniPCMultistepScheduler(**schedule)
    if config.name == "euler":
        return schedulers.EulerDiscreteScheduler(**schedule)
    if config.name == "lcm":
        return schedulers.LCMScheduler(**schedule, clip_sample=False)
    if config.name == "tcd":
        return schedulers.TCDScheduler(**schedule, clip_sample=False)
    return schedulers.DDIMScheduler(**schedule, clip_sample=False, steps_offset=1)


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """Refuse a scheduler that would read our networks' output as something else.

    Raises:
        ConfigError: it does not predict velocity.
    """
    prediction = scheduler.config.get("prediction_type")
    if prediction != "v_prediction":
        raise ConfigError(
            f"{type(scheduler).__name__} has prediction_type {prediction!r}, these networks predict 'v_prediction'. "
            "Build it with from_config(pipe.scheduler.config)."
        )
