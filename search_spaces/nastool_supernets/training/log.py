"""The log of a training run: a file of JSON records, one a logged step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nastool.files.reading import is_file, read_text
from nastool.files.writing import write_whole, writing
from nastool_supernets.training.report import StepReport


class TrainingLog:
    """``log.jsonl`` in the folder of a run.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"

    def clear(self) -> None:
        """Forget what an earlier run left there."""
        with writing(self._path):
            self._path.unlink(missing_ok=True)

    def cut(self, step: int) -> None:
        """Drop what comes after a step: a resumed run writes it again."""
        if not is_file(self._path):
            return
        kept = []
        for line in read_text(self._path).splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                break  # the line that a killed run was writing
        write_whole(self._path, "".join(kept))

    def append(self, report: StepReport, tokens: int, seconds: float) -> dict[str, float]:
        """Write a step's record; return its numbers by name, for curves.

        Args:
            report: What the step did.
            tokens: Tokens seen so far.
            seconds: Time spent so far, in all runs.

        Raises:
            WriteError: If it cannot be written, e.g. on a full disk.
        """
        numbers = {
            "learning_rate": report.learning_rate,
            "tokens_per_second": round(report.tokens_per_second, 1),
            "utilisation": round(report.utilisation or 0.0, 4),
        }
        by_name = {"loss": report.losses}
        if report.perplexities is not None:
            by_name["perplexity"] = report.perplexities
        record: dict[str, Any] = {
            "step": report.step,
            "tokens": tokens,
            "seconds": round(seconds, 3),
            **numbers,
            "subnets": [subnet._asdict() for subnet in report.subnets],
            **by_name,
        }
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for kind, values in by_name.items():
            numbers |= {f"{kind}/{name}": value for name, value in values.items()}
        return numbers
