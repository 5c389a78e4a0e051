r"""Gather painted portraits from Debian packages: beards, hoods, faces turned aside, which the photos hardly show.

    apt-get install flare-game wesnoth-1.16-data wesnoth-1.16-{did,dm,httt,l,low,sof,trow}
    python examples/painted_portraits.py --output PORTRAITS

Copies into the folder PORTRAITS those pictures whose face is found rightly and whose mouth nothing hides; put photos
beside them, and examples/synthesize_clips.py takes the folder. The packages need not be installed: --root names a
folder into which `dpkg-deb -x PACKAGE.deb ROOT` unpacked them. Flare's art is licensed CC BY-SA 3.0, Wesnoth's GPL-2
or later.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

FLARE = "usr/share/games/flare/mods/fantasycore/images/portraits"
WESNOTH = "usr/share/games/wesnoth/1.16/data"
PEOPLES, CAMPAIGNS = f"{WESNOTH}/core/images/portraits", f"{WESNOTH}/campaigns"

CHOSEN = {
    ("flare", FLARE): "female01 female02 female03 female04 female05 female06 female07 female08 female09 female10"
    " female12 female13 female14 female15 male01 male02 male03 male04 male05 male06 male07 male08 male09 male10"
    " male11 male12 male13 male14 male15 male16 male17 male18 male19 male20",
    ("dwarf", f"{PEOPLES}/dwarves"): "dragonguard explorer guard scout thunderer",
    ("elf", f"{PEOPLES}/elves"): "lady marksman ranger shaman",
    ("human", f"{PEOPLES}/humans"): "bowman dark-adept duelist fencer footpad+female mage+female mage-arch mage-light"
    " mage-red mage-silver+female mage-white+female mage peasant ruffian thug woodsman",
    ("darkness", f"{CAMPAIGNS}/Descent_Into_Darkness/images/portraits"): "dela karae malin_young",
    ("memoirs", f"{CAMPAIGNS}/Delfadors_Memoirs/images/portraits"): "garard leollyn young_delfador",
    ("throne", f"{CAMPAIGNS}/Heir_To_The_Throne/images/portraits"): "konrad-elvish-glad lisar moremirmu",
    ("liberty", f"{CAMPAIGNS}/Liberty/images/portraits"): "baldras harper relana",
    ("wesmere", f"{CAMPAIGNS}/Legend_of_Wesmere/images/portraits"): "aldar dionli galtrid velon",
    ("sceptre", f"{CAMPAIGNS}/Sceptre_of_Fire/images/portraits"): "alanin-old baglur haldric-ii-old thursagan",
    ("rise", f"{CAMPAIGNS}/The_Rise_Of_Wesnoth/images/portraits"): "aethyr-second aryad haldric",
}
"""A prefix for new names, the folder, and the pictures taken from it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder of pictures")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where the packages are unpacked")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    missing: set[str] = set()
    for (prefix, folder), names in CHOSEN.items():
        for name in names.split():
            picture = arguments.root / folder / f"{name}.png"
            if picture.is_file():
                shutil.copyfile(picture, arguments.output / f"{prefix}_{name}.png")
            else:
                missing.add(folder)
    if missing:
        sys.exit(f"Not all pictures are there; install the packages with: {', '.join(sorted(missing))}.")


if __name__ == "__main__":
    main()
