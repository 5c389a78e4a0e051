"""The networks beside the face and speech models by which clips are judged, where their weights are installed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from portraitanim.data.preparation.state import SETTINGS_FILE, PreparationState, read_json, write_json
from portraitanim.errors import InputError

_FILE = "judges.json"


@dataclass(frozen=True, kw_only=True)
class ClipJudges:
    """Folders of weights; none by default.

    Attributes:
        syncnet: SyncNet's, whose confidence becomes a score.
        separator: of the network that takes the voice out of music and noise, before speech is looked for in it.
    """

    syncnet: Path | None = None
    separator: Path | None = None

    def require_same(self, state: PreparationState) -> None:
        """Refuse to judge some clips of a dataset by other networks than the rest; remembers these.

        Raises:
            InputError: it was begun with others.
        """
        now = {name: folder is not None for name, folder in asdict(self).items()}
        if read_json(state.folder / SETTINGS_FILE) is not None:
            before = read_json(state.folder / _FILE) or dict.fromkeys(now, False)
            for name, (use, leave) in _OPTIONS.items():
                if before.get(name, False) != now[name]:
                    raise InputError(
                        f"{state.root} was begun {'without' if now[name] else 'with'} the network {name}, and its "
                        f"clips must be judged alike. {leave if now[name] else use}, or use another --output."
                    )
        write_json(state.folder / _FILE, now)


_OPTIONS = {
    "syncnet": ("Use --syncnet (portraitanim weights pull syncnet-v2)", "Use --no-syncnet"),
    "separator": ("Use --separate-vocals", "Leave --separate-vocals out"),
}
