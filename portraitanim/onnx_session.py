"""Opening an ONNX network: on the device that was asked for, quietly, with errors in plain words."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from portraitanim.errors import DamagedWeightsError, InputError, MissingWeightsError
from portraitanim.runtime import num_cores

logger = logging.getLogger(__name__)

_MAX_THREADS = 4  # these networks are small: more threads only wait for each other
_ERRORS_ONLY = 3


def open_session(path: Path, *, install: str, device: str = "cpu", num_threads: int | None = None) -> Any:
    """Load a network.

    Args:
        path: the ``.onnx`` file.
        install: command that installs the file, or puts it right, for messages.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        num_threads: threads on the CPU; by default what this process may use, at most 4.

    Returns:
        An ``onnxruntime.InferenceSession``.

    Raises:
        MissingWeightsError: the file is absent; the message has the command that gets it.
        DamagedWeightsError: it is not a network that can be read.
        InputError: onnxruntime has no such device here.
    """
    if not path.is_file():
        raise MissingWeightsError(f"The network {path.name} is not in {path.parent}. Run: {install}")
    import onnxruntime

    providers = _providers(device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # Left to itself, onnxruntime pins threads to cores that a container may not have, and says so on stderr.
    options.intra_op_num_threads = num_threads or min(_MAX_THREADS, num_cores())
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has a dozen kinds without a common base
        logger.debug("onnxruntime on %s: %s", path, error)
        raise DamagedWeightsError(
            f"{path} is not a network that onnxruntime {onnxruntime.__version__} can read "
            f"({type(error).__name__}). Install it again: {install}"
        ) from None
    wanted = _provider_name(providers[0])
    if session.get_providers()[0] != wanted:
        raise InputError(f"onnxruntime could not start {wanted} for {path.name}. Use --device cpu.")
    return session


def _providers(device: str) -> list[Any]:
    import onnxruntime

    if device == "cpu":
        return ["CPUExecutionProvider"]
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index.isdigit() or not index):
        raise InputError(f"onnxruntime runs on cpu, cuda or cuda:N here, got device {device!r}.")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise InputError(
            f"Device {device!r} was asked for, but the installed onnxruntime runs on the CPU only. "
            "Use cpu, or install onnxruntime-gpu in its place."
        )
    return [("CUDAExecutionProvider", {"device_id": index or "0"}), "CPUExecutionProvider"]


def _provider_name(provider: Any) -> str:
    return str(provider[0] if isinstance(provider, tuple) else provider)
