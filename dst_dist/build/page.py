"""One HTML page about built dialogs: what was found in each, beside the evidence, and what could not be aligned."""

from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape

from dst_dist.build.make import Aligned, Built

MOST_SHOWN = 200
"""Dialogs with a timeline: those that were aligned worst."""
WIDTH, LABEL, ROW = 900, 260, 16
"""Sizes of a timeline in pixels: the whole, the steps' names, a step's row."""
_STYLE = """
body { font: 14px sans-serif; max-width: 1200px; margin: 2em auto; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: 2px 10px; text-align: left; border-bottom: 1px solid #ddd; }
summary { cursor: pointer; padding: 4px 0; }
svg text { font: 11px sans-serif; }
.active { fill: #2f7ed8; } .line { fill: #7cb342; } .none { fill: #bbb; } .said { fill: #d84315; }
"""
_KEY = (
    "Blue: the step is in progress. Green: an annotated line about it; grey: a line about no step. "
    "Red: an instruction that tells the step. Hold the pointer over a mark to read it."
)


def page_of(built: Built) -> Iterator[str]:
    """Yield the page."""
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>Built clips</title><style>{_STYLE}</style>\n"
    yield "<h1>Built clips</h1>\n"
    yield _table(("file", "clips"), ((name, len(clips)) for name, clips in built.files.items()))
    kinds = Counter(change.transition for dialog in built.dialogs for change in dialog.changes)
    yield _table(("transition", "number"), sorted(kinds.items()))
    if built.report.counts:
        yield "<h2>Left out, moved or mended</h2>\n<ul>"
        yield from (f"<li>{escape(line)}</li>\n" for line in built.report.lines())
        yield "</ul>\n"
    worst = sorted(built.dialogs, key=lambda dialog: (dialog.score, dialog.id))
    yield f"<h2>{min(len(worst), MOST_SHOWN)} of {len(worst)} dialogs, those with the least evidence first</h2>\n"
    yield f"<p>{_KEY}</p>\n"
    for dialog in worst[:MOST_SHOWN]:
        yield from _dialog(dialog)
    yield "</html>\n"


def _table(heads: tuple[str, ...], rows: Iterable[tuple]) -> str:
    written = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>\n{written}</table>\n"


def _dialog(dialog: Aligned) -> Iterator[str]:
    quality = dialog.conversation.auto_quality_eval
    theirs = "none" if quality is None or quality.final_score is None else f"{quality.final_score:.2f}"
    basis = "annotated lines" if dialog.task.evidence.lines else "speech alone"
    yield (
        f"<details><summary>{escape(dialog.id)}: alignment {dialog.score:.2f}, ProAssist {theirs}, from {basis}"
        f"</summary>\n{_timeline(dialog)}\n"
    )
    without = {change.step for change in dialog.changes}
    notes = [f"{step.id}: no evidence" for place, step in enumerate(dialog.task.steps) if place not in without]
    notes += [
        f"{line.start:.1f} s: {line.text}: less like any step than the least similarity that counts"
        for line in dialog.matches.unmatched
    ]
    yield "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul></details>\n"


def _timeline(dialog: Aligned) -> str:
    times = [0.0, *(one.time for one in (*dialog.changes, *dialog.conversation.conversation))]
    times += [line.end or line.start for line in dialog.task.evidence.lines]
    end = max(times) + 1.0
    marks = list(_bars(dialog, end))
    rows = [
        f"<text x=0 y={ROW * n + 12}>{escape(f'{s.id} {s.name}'[:44])}</text>" for n, s in enumerate(dialog.task.steps)
    ]
    height = ROW * (len(dialog.task.steps) + 1)
    texts = [f"<text x={LABEL} y={height + 12}>0 s</text><text x={WIDTH - 40} y={height + 12}>{end:.0f} s</text>"]
    return f"<svg width={WIDTH} height={height + ROW}>{''.join([*rows, *marks, *texts])}</svg>"


def _bars(dialog: Aligned, end: float) -> Iterator[str]:
    """Yield the marks of a timeline: intervals in progress, lines and instructions."""

    def bar(kind: str, row: int, start: float, stop: float, top: int, height: int, title: str) -> str:
        left, right = (LABEL + (WIDTH - LABEL) * min(time, end) / end for time in (start, stop))
        box = f"x={left:.1f} y={ROW * row + top} width={max(2.0, right - left):.1f} height={height}"
        return f"<rect class={kind} {box}><title>{escape(title)}</title></rect>"

    for step, start, stop in intervals(dialog, end):
        yield bar("active", step, start, stop, 2, 6, f"{dialog.task.steps[step].id}: {start:.1f} to {stop:.1f} s")
    text_at = {line.start: line.text for line in dialog.task.evidence.lines}
    for run in dialog.matches.runs:
        title = f"{run.start:.1f} s: {text_at[run.start]} ({run.similarity:.2f})"
        yield bar("line", run.step, run.start, run.end or run.start, 9, 4, title)
    for line in dialog.matches.unmatched:
        title = f"{line.start:.1f} s: {line.text}"
        yield bar("none", len(dialog.task.steps), line.start, line.end or line.start, 9, 4, title)
    for tell in dialog.matches.tells:
        yield bar("said", tell.step, tell.time, tell.time, 9, 4, f"told at {tell.time:.1f} s ({tell.similarity:.2f})")


def intervals(dialog: Aligned, end: float) -> Iterator[tuple[int, float, float]]:
    """Yield (step, start, end) in seconds of every stretch in which a step is in progress."""
    open_at: dict[int, float] = {}
    for change in dialog.changes:
        if change.transition in ("start", "resume"):
            open_at[change.step] = change.time
        elif change.step in open_at:
            yield change.step, open_at.pop(change.step), change.time
    yield from ((step, start, end) for step, start in open_at.items())
