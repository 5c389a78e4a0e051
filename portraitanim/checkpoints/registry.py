"""The weights that this package can use: where they come from, how large they are and what one may do with them.

Only what was established is said; ``None`` and ``unknown`` stand for the rest. No torch here: ``weights list`` must be
instant.

Sources: reference/hallo.md section 1, reference/echomimic.md section 0, reference/metrics.md;
licences of the autoencoder and of wav2vec2 from their model cards, of Whisper from OpenAI's repository.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from portraitanim.errors import InputError

CommercialUse = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One set of weights that can be installed.

    Attributes:
        name: what it is called on the command line.
        purpose: what it is for, in a few words.
        repo_id: repository on the Hugging Face hub; empty for files that lie elsewhere.
        files: paths in the repository that are needed, or names of the files that lie elsewhere.
        urls: file → address, for files that are not on the hub.
        size_bytes: size of the download as far as it is known, exactly or from the number of values.
        licence: licence of the weights.
        commercial_use: whether that licence allows it.
        converts: whether the published files become other files here; if not, they are kept as they are.
        needs: names of other weights without which these do nothing.
        sha256: of published files, where it is known; the publisher's own file names may hold its beginning only.
        git_sha1: of published files that lie in a git repository: git's own hash of the content.
    """

    name: str
    purpose: str
    repo_id: str
    files: tuple[str, ...]
    size_bytes: int | None
    licence: str
    commercial_use: CommercialUse
    converts: bool = True
    needs: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    git_sha1: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Where a person reads about these weights."""
        return f"https://huggingface.co/{self.repo_id}" if self.repo_id else next(iter(self.urls.values()))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


_HALLO_REPO = "fudan-generative-ai/hallo"
_ECHOMIMIC_REPO = "BadToBest/EchoMimic"
_FACES = ("antelopev2", "face-landmarker")
_UNSTATED = "unknown"

# Float32, as echomimic.md counts them; files in float16 would be half of it.
_ECHOMIMIC_BYTES = {
    "reference_unet": 3_262_085_120,
    "denoising_unet": 3_399_745_296,
    "motion_module": 1_817_670_400,
    "face_locator": 4_344_768,
    "face_locator_pose": 4_345_920,
}
# The pack's other three (landmarks, age and gender) are not used here.
_ANTELOPE = ("glintr100", "scrfd_10g_bnkps")
_LANDMARKER = "face_analysis/models/face_landmarker_v2_with_blendshapes.task"


def _echomimic(name: str, purpose: str, pose: str, accelerated: str) -> WeightsEntry:
    stems = ("reference_unet", "denoising_unet", "motion_module", "face_locator")
    # Reference network and locator are shared with the variant that is not accelerated.
    own = {"denoising_unet": accelerated, "motion_module": accelerated}
    return WeightsEntry(
        name=name,
        purpose=purpose,
        repo_id=_ECHOMIMIC_REPO,
        files=tuple(f"{stem}{pose}{own.get(stem, '')}.pth" for stem in stems),
        size_bytes=sum(_ECHOMIMIC_BYTES.get(stem + pose, _ECHOMIMIC_BYTES[stem]) for stem in stems),
        licence=_UNSTATED,
        commercial_use="unknown",
        needs=("sd-vae-ft-mse", "whisper-tiny", "face-landmarker"),
    )


_LPIPS_PAGE = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1"
_LIPSYNC_PAGE = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data"


def _evaluator(
    name: str,
    purpose: str,
    urls: Mapping[str, str],
    size_bytes: int | None = None,
    sha256: Mapping[str, str] | None = None,
    git_sha1: Mapping[str, str] | None = None,
) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        purpose=purpose,
        repo_id="",
        files=tuple(urls),
        urls=urls,
        size_bytes=size_bytes,
        licence=_UNSTATED,
        commercial_use="unknown",
        sha256=sha256 or {},
        git_sha1=git_sha1 or {},
    )


def _lpips(name: str, heads_sha256: str, trunk: str, trunk_sha256: str) -> WeightsEntry:
    heads = f"{name}.pth"
    return _evaluator(
        f"lpips-{name}",
        f"measures LPIPS with {name}: heads v0.1 (BSD-2-Clause) and the ImageNet trunk",
        {heads: f"{_LPIPS_PAGE}/{heads}", trunk: f"https://download.pytorch.org/models/{trunk}"},
        sha256={heads: heads_sha256, trunk: trunk_sha256},
    )


# What measures, see reference/metrics.md. Sizes are counted from the values; a sha256 that is only a beginning is the
# one in the publisher's file name.
_EVALUATORS = (
    _evaluator(
        "inception-2015",
        "measures FID: Inception-v3 of TensorFlow's 2015-12-05 graph",
        {
            "pt_inception-2015-12-05-6726825d.pth": "https://github.com/mseitzer/pytorch-fid/releases/download/"
            "fid_weights/pt_inception-2015-12-05-6726825d.pth"
        },
        size_bytes=95_541_568,
        sha256={"pt_inception-2015-12-05-6726825d.pth": "6726825d"},
    ),
    _evaluator(
        "i3d-kinetics-400",
        "measures FVD: I3D of Kinetics-400, the port of VideoGPT",
        {
            "i3d_pretrained_400.pt": "https://github.com/JunyaoHu/common_metrics_on_video_quality/raw/main/fvd/"
            "videogpt/i3d_pretrained_400.pt"
        },
        size_bytes=50_847_296,
        git_sha1={"i3d_pretrained_400.pt": "a867b87ac3a9097d200598b1d48a1b890d8ec744"},
    ),
    _evaluator(
        "syncnet-v2",
        "measures Sync-C, Sync-D and the offset of sound",
        {"syncnet_v2.model": f"{_LIPSYNC_PAGE}/syncnet_v2.model"},
        size_bytes=54_561_024,
    ),
    _evaluator(
        "s3fd",
        "face detector of SyncNet's published pipeline",
        {"sfd_face.pth": f"{_LIPSYNC_PAGE}/sfd_face.pth"},
        size_bytes=89_836_440,
    ),
    _evaluator(
        "deep3d-recon",
        "measures E-FID: expression coefficients of Deep3DFaceRecon",
        {"epoch_20.pth": "https://github.com/Winfredy/SadTalker/releases/download/v0.0.2/epoch_20.pth"},
    ),
    _lpips(
        "alex",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        "alexnet-owt-7be5be79.pth",
        "7be5be79",
    ),
    _lpips(
        "vgg",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        "vgg16-397923af.pth",
        "397923af",
    ),
)

_ENTRIES = (
    WeightsEntry(
        name="hallo",
        purpose="Hallo: audio driven, with regional audio attention",
        repo_id=_HALLO_REPO,
        files=("hallo/net.pth",),
        # 2,424,802,964 values, in float16 as far as is known.
        size_bytes=4_849_605_928,
        licence=_UNSTATED,
        commercial_use="unknown",
        needs=("sd-vae-ft-mse", "wav2vec2-base-960h", *_FACES),
    ),
    _echomimic("echomimic", "EchoMimic: audio driven", "", ""),
    _echomimic("echomimic-acc", "EchoMimic: audio driven, in few steps", "", "_acc"),
    _echomimic("echomimic-pose", "EchoMimic: driven by audio and landmarks", "_pose", ""),
    _echomimic("echomimic-pose-acc", "EchoMimic: driven by audio and landmarks, in few steps", "_pose", "_acc"),
    WeightsEntry(
        name="sd-vae-ft-mse",
        purpose="autoencoder between pictures and latents, for all systems above",
        repo_id="stabilityai/sd-vae-ft-mse",
        files=("diffusion_pytorch_model.safetensors",),
        size_bytes=334_615_452,
        licence="MIT",
        commercial_use="yes",
    ),
    WeightsEntry(
        name="taesd",
        purpose="small decoder of the same latents (--speed fast)",
        repo_id="madebyollin/taesd",
        files=("config.json", "diffusion_pytorch_model.safetensors"),
        size_bytes=None,
        licence="MIT",
        commercial_use="yes",
        converts=False,
    ),
    WeightsEntry(
        name="wav2vec2-base-960h",
        purpose="audio encoder of Hallo",
        repo_id="facebook/wav2vec2-base-960h",
        files=("config.json", "model.safetensors"),
        size_bytes=None,
        licence="Apache-2.0",
        commercial_use="yes",
    ),
    WeightsEntry(
        name="whisper-tiny",
        purpose="audio encoder of EchoMimic",
        repo_id=_ECHOMIMIC_REPO,
        files=("audio_processor/whisper_tiny.pt",),
        size_bytes=75_521_280,
        licence="MIT",
        commercial_use="yes",
    ),
    WeightsEntry(
        name="antelopev2",
        purpose="InsightFace pack: who a face is, for Hallo",
        repo_id=_HALLO_REPO,
        files=tuple(f"face_analysis/models/{stem}.onnx" for stem in _ANTELOPE),
        size_bytes=None,
        licence="InsightFace models: non-commercial research only",
        commercial_use="no",
        converts=False,
    ),
    WeightsEntry(
        name="kim-vocal-2",
        purpose="MDX-Net: takes the voice out of music and noise (--separate-vocals)",
        repo_id=_HALLO_REPO,
        files=("audio_separator/Kim_Vocal_2.onnx",),
        size_bytes=None,
        licence=_UNSTATED,
        commercial_use="unknown",
        converts=False,
    ),
    WeightsEntry(
        name="face-landmarker",
        purpose="MediaPipe face landmarks with head pose and expression scores",
        repo_id=_HALLO_REPO,
        files=(_LANDMARKER,),
        size_bytes=3_758_596,
        licence="Apache-2.0",
        commercial_use="yes",
        converts=False,
        sha256={_LANDMARKER: "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"},
    ),
    *_EVALUATORS,
)

REGISTRY: Mapping[str, WeightsEntry] = {entry.name: entry for entry in _ENTRIES}
"""Everything that can be installed, by name, in the order in which it is listed."""


def find_entry(name: str) -> WeightsEntry:
    """Look a name up.

    Raises:
        InputError: there is no such entry; the nearest one is named.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name, REGISTRY, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise InputError(f"No weights are called {name!r}.{hint} Known: {', '.join(REGISTRY)}.")
