"""The one family of exceptions that this package raises on purpose.

Every class carries the exit code with which the command line ends (``portraitanim --help`` lists them),
and a message that says what is wrong, what was got, what was expected and what to do next.
"""

from __future__ import annotations


class PortraitAnimError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class InputError(PortraitAnimError):
    """A file or value from the user cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration has an unknown key, a wrong type or values that exclude each other."""


class ShapeError(InputError):
    """A tensor has another shape than the network or function reads."""


class MediaError(InputError):
    """An image, sound or video is missing, damaged or of an unknown format."""


class FaceError(PortraitAnimError):
    """No usable face in a picture or video."""

    exit_code = 3


class CheckpointError(InputError):
    """A checkpoint file named by the user is damaged, or its keys or shapes are not those of the network."""


class TrainingError(PortraitAnimError):
    """A training run ended before its last step; the message names the state that is left."""


class WeightsError(PortraitAnimError):
    """Installed weights cannot be used."""

    exit_code = 4


class MissingWeightsError(WeightsError):
    """Weights that the command needs are not installed."""


class DamagedWeightsError(WeightsError):
    """Installed weights are not the bytes that were recorded when they were installed."""


class NetworkUnavailableError(PortraitAnimError):
    """A download was asked for and no server could be reached, or offline mode is on."""


class OutOfMemoryError(PortraitAnimError):
    """The device has not enough memory for the chosen sizes."""

    exit_code = 5
