"""Entry point of ``python -m portraitanim`` and of the ``portraitanim`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from portraitanim.cli.app import run

    run()


if __name__ == "__main__":
    main()
