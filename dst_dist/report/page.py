"""`dst-dist report` writes a run on one page of HTML, which needs neither other files nor a network."""

import json
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from dst_dist.errors import ConfigError
from dst_dist.files import write_whole
from dst_dist.report.clip_view import read_clip_records
from dst_dist.report.run_view import read_run
from dst_dist.report.thumbnails import add_thumbnails
from dst_dist.run_folder import RunFolder

MOST_BYTES = 20_000_000
"""Size of the whole page. Clips take at most three quarters of it, thumbnails the rest."""
SCRIPTS = ("dom.js", "charts.js", "results.js", "timeline.js", "page.js")


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run and return its file. The run may be unfinished or not evaluated: the page says so.

    Args:
        out: the file to write, otherwise `evaluation/report.html` in the run folder.

    Raises:
        ConfigError: if the folder is no run folder, or `out` is a folder.
    """
    run = read_run(run_folder)
    out = out or RunFolder(run_folder).report_file
    if out.is_dir():
        raise ConfigError(f"{out}: a folder; name the HTML file to write")
    title = f"{run['name']}: {run['model']}"
    clips, notes = read_clip_records(run_folder, MOST_BYTES * 3 // 4)
    room = MOST_BYTES - len(_page({**run, "clips": clips}, title))
    notes += add_thumbnails(clips, room)
    write_whole(out, _page({**run, "clips": clips, "clip_notes": notes}, title))
    return out


def _page(data: Mapping[str, Any], title: str) -> str:
    files = resources.files("dst_dist.report")
    # Escaped, so that no text in the data can end the script element that holds it.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    parts = {
        "title": escape(title),
        "style": files.joinpath("page.css").read_text(encoding="utf-8"),
        "script": "\n".join(files.joinpath(script).read_text(encoding="utf-8") for script in SCRIPTS),
        "data": text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
    }
    template = files.joinpath("page.html").read_text(encoding="utf-8")
    # In one pass, so that a placeholder's name within the data is left alone.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
