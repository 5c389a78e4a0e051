"""Golden tensors that no parity test reads, and why. `test_goldens_read` fails on any that is not listed here.

For each file (``system/name``): regular expressions that fit names of tensors as a whole, with the reason. A file
without tensors (JSON, picture, sound) has one name, an asterisk.
"""

from __future__ import annotations

_FOR_PEOPLE = "a picture for people to look at; the arrays it shows are compared from the .npz files"
_NOT_COMPUTED = "the reference network stops at its last recorded feature; nothing ever reads what comes after it"

UNUSED: dict[str, dict[str, str]] = {
    "echomimic/ref.png": {r"\*": "the picture stored as ref_image in g_pipe_inputs, which is compared"},
    "echomimic/g_reference.safetensors": {"output_before_removed_head": _NOT_COMPUTED},
    "echomimic/motion/pkl0_infer512.png": {r"\*": _FOR_PEOPLE},
    "echomimic/motion/pkl0_iris_mouth512.png": {r"\*": _FOR_PEOPLE},
    "echomimic/motion/pkl0_mouth512.png": {r"\*": _FOR_PEOPLE},
    "echomimic/motion/sync_a_to_d_20_mouth.png": {r"\*": _FOR_PEOPLE},
    "metrics/csim.npz": {
        "M": "the aligned pictures are compared, which it makes",
        "M_cv_ransac": "OpenCV's robust fit, which nobody's numbers come from",
    },
    "metrics/syncnet_clip.npz": {"mouth": "where the clip's mouth was drawn; its pixels are compared"},
    "hallo/io_reference_bank.safetensors": {r"ref\.unet_out_before_any_conv_out": _NOT_COMPUTED},
}
