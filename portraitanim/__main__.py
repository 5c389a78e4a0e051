"""Entry point of ``python -m portraitanim`` and of the ``portraitanim`` command."""

from __future__ import annotations

import os

_SPIN_COUNT = "2000"
"""How long a thread of GCC's OpenMP, which torch uses on Linux, spins while it waits for another.

By its own choice it spins so long that beside other work two threads come almost to a stop (over ten times slower than
with this number, which costs nothing on a quiet machine).
"""


def main() -> None:
    """Run the command line."""
    # OpenMP reads it once, when torch is first imported.
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
    from portraitanim.cli.app import run

    run()


if __name__ == "__main__":
    main()
