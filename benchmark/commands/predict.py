"""`bench predict`: scores, heat maps and a contact sheet of images that belong to no data set."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress

from benchmark.commands.columns import plain
from benchmark.commands.prediction_files import Output, write_all
from benchmark.detector import Detector, check_rate
from benchmark.execution.given import common_folder, find_images
from benchmark.metrics.false_alarms import Threshold
from benchmark.request.registry import ConfigError
from datamodules.components.content import file_digest

OK, FAILED = 0, 1


class Asked(NamedTuple):
    """The words of the command line."""

    method: str | None
    record: str | None
    results: Path | None
    shots: str | None
    object_name: str | None
    backbone: str | None
    seed: int | None
    device: str
    words: Sequence[str]


def predict(asked: Asked, where: str, output: Path, false_alarm: float | None, argv: Sequence[str]) -> int:
    """Score all images of `where` and write what came of it to `output`; 1 if some image could not be scored.

    Raises:
        UserError: the request cannot be honoured; then nothing is written.
    """
    console = Console()
    folder = Output.open(output)
    if false_alarm is not None:
        check_rate(false_alarm)
    paths = find_images(where)
    detector = _open(asked)
    if false_alarm is not None and detector.n_shots < 2:
        raise ConfigError(f"--false-alarm needs two normal images or more (--shots), got {detector.n_shots}.")
    note = [f"{detector.cell.backbone_label}: {detector.cell.note}."] if detector.cell.note else []
    told = [*note, *detector.remarks, *_seen(detector, paths)]
    if detector.refits and false_alarm is not None:
        _say(console, f"{_leaving_out(detector)}:")
    with Progress(console=console, transient=True) as progress:
        if detector.n_shots > 1 and (false_alarm is not None or not detector.refits):
            detector.leave_one_out(_counted(progress, _leaving_out(detector), detector.n_shots))
        limit = detector.threshold(false_alarm) if false_alarm is not None else None
        scored = detector.score_files(paths, _counted(progress, f"{len(paths)} images", len(paths)))
        told += [*_on_percentiles(detector), *([_on_threshold(limit, detector.n_shots)] if limit else [])]
        drawn = _counted(progress, "heat maps", len(paths))
        facts = {"argv": [*argv], "told": told, "threshold": limit and limit._asdict(), **detector.describe()}
        write_all(folder, detector, paths, common_folder(paths, where), scored, limit, facts, drawn)
    for sentence in told:
        _say(console, f"note: {sentence}")
    for place in sorted(scored.errors):
        _say(console, f"no score: {scored.errors[place]}")
    _say(console, f"{len(paths) - len(scored.errors)} of {len(paths)} images scored; {folder.path / 'scores.csv'}")
    return FAILED if scored.errors else OK


def _open(asked: Asked) -> Detector:
    """The fitted method that was asked for."""
    if (asked.method is None) == (asked.record is None):
        raise ConfigError("bench predict takes either --method, which is fitted now, or --record, which was.")
    if asked.record is not None:
        if asked.seed is not None or asked.words:
            raise ConfigError("--seed and KEY=VALUE do not go with --record, which has its own seed and settings.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are remarks too, which are printed
            names: dict[str, Any] = {"category": asked.object_name, "backbone": asked.backbone}
            detector = Detector.from_record(asked.record, results=asked.results, device=asked.device, **names)
        return detector if asked.shots is None else detector.fit(asked.shots)
    if asked.results is not None:
        raise ConfigError("--results says where a --record lies; a method that is fitted now has none.")
    detector = Detector(
        str(asked.method),
        backbone=asked.backbone or "embedded",
        object_name=asked.object_name,
        seed=asked.seed or 0,
        device=asked.device,
        words=asked.words,
    )
    return detector.fit(asked.shots) if asked.shots is not None else detector.begin()


def _seen(detector: Detector, paths: Sequence[Path]) -> list[str]:
    """A sentence where some of the images are shots."""
    shots = {file_digest(path) for path in detector.shots}
    both = [path.name for path in paths if file_digest(path) in shots] if shots else []
    more = f" and {len(both) - 3} more" if len(both) > 3 else ""
    words = f"{', '.join(both[:3])}{more} are among the shots: their scores say nothing of a new image."
    return [words] if both else []


def _leaving_out(detector: Detector) -> str:
    count = detector.n_shots
    if not detector.refits:
        return f"leave one out of {count} shots"
    return f"{count} fits, each without one shot, about {count * detector.fit_seconds:.0f} s"


def _on_percentiles(detector: Detector) -> list[str]:
    count, cell = detector.n_shots, detector.cell
    if detector.percentile(0.0) is not None:
        others = (
            f"each scored by a fit on the other {count - 1}" if cell.shots else "which the method has not looked at"
        )
        return [f"Percentiles are among the {count} normal images, {others}."]
    if count > 1:
        seconds = f"about {count * detector.fit_seconds:.0f} s"
        return [f"No percentiles: {cell.method} is fitted anew for each shot, {seconds}; --false-alarm asks for that."]
    told = any(remark.startswith("No percentiles") for remark in detector.remarks)
    return [] if told else ["No percentiles: they need two normal images or more (--shots)."]


def _on_threshold(limit: Threshold, count: int) -> str:
    if limit.resolved:
        return (
            f"Threshold {limit.value:.6g}, of normal images alone: by {count} left-out ones, about "
            f"{limit.promised:.2%} of normal images exceed it (asked: {limit.asked:.2%})."
        )
    return (
        f"{count} normal images cannot resolve a rate of {limit.asked:g}, only 1/{count + 1}: the threshold "
        f"{limit.value:.6g} is their highest left-out score, which about {limit.promised:.0%} of normal images exceed."
    )


def _counted(progress: Progress, words: str, total: int) -> Callable[[int], None]:
    task = progress.add_task(words, total=total)
    return lambda done: progress.update(task, advance=done)


def _say(console: Console, sentence: str) -> None:
    console.print(plain(sentence), markup=False, highlight=False, soft_wrap=True)
