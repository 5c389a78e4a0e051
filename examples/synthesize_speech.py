"""Make speech with the motion of its mouth, without pictures: what `train tiny --stage audio` learns from.

    python examples/synthesize_speech.py --output SPEECH --number 3000 [--talking VIDEOS --only liveportrait_d11]

Needs espeak-ng (and, for better voices, flite): apt-get install espeak-ng flite. About a tenth of a second per clip.
"""

from __future__ import annotations

import argparse
import sys
from itertools import batched
from pathlib import Path

from portraitanim.data.speech_motion import write_speech_motion
from portraitanim.data.synthesis.speech_set import real_speech, synthetic_speech
from portraitanim.data.synthesis.talking_tracks import load_tracks
