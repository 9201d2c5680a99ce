"""Keeps the candidates of profiles that none of them fits, to look into: ``DIR/NAME/rejected-N/PROFILE/SCHEME.tflite``.

It is no artifact and no version: nothing pushes it, and another conversion of that version puts its own in its place.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeferry.converter.errors import ArtifactError
from edgeferry.converter.report import verdict_row
from edgeferry.converter.selection import Choice
from edgeferry.converter.stock import Stock

__all__ = ["keep_rejected"]


def keep_rejected(folder: Path, choices: Sequence[Choice], stock: Stock) -> Path:
    """Return the folder with the candidates of every choice that came to nothing.

    Args:
        folder: Of the version that could not be written, DIR/NAME/N.
        choices: One per profile.
        stock: Where the candidates' models are.

    Raises:
        ArtifactError: The disk refuses; what was there before is as it was.
    """
    kept = folder.with_name(f"rejected-{folder.name}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{kept.name}.", dir=kept.parent))
        try:
            for choice in choices:
                if choice.chosen is None:
                    _fill(staging / choice.profile, choice, stock)
            staging.chmod(0o755)  # mkdtemp made it for one user alone
            shutil.rmtree(kept, ignore_errors=True)
            staging.rename(kept)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as err:
        raise ArtifactError(f"{kept}: cannot be written: {err.strerror or err}") from err
    return kept


def _fill(place: Path, choice: Choice, stock: Stock) -> None:
    place.mkdir()
    for verdict in choice.verdicts:
        if verdict.candidate is not None:
            shutil.copyfile(stock.of(verdict.candidate).model, place / f"{verdict.scheme}.tflite")
    rows = [verdict_row(verdict) for verdict in choice.verdicts]
    (place / "report.json").write_text(json.dumps({"profile": choice.profile, "candidates": rows}, indent=1) + "\n")
