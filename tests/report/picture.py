"""Draw dst_dist/report/report.png: the top of a run's report, and one of its clips opened.

python -m tests.report.picture RUN OUT.png --clip workshop/workshop-test-0000/0
"""

import argparse
import base64
import io
import json
import tempfile
from pathlib import Path

from PIL import Image

from dst_dist.report.page import write_report
from tests.report.browser import Page, opened_browser

WIDTH, TOP_HEIGHT, GAP = 1200, 780, 24
"""CSS pixels: of the picture; of its first part, the results; below the opened clip."""


def crop(browser: Page, top: float, height: float) -> Image.Image:
    """Return a part of the page, as wide as the page; in CSS pixels."""
    clip = {"x": 0, "y": top, "width": WIDTH, "height": height, "scale": 1}
    shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


def draw(run: Path, out: Path, clip: str) -> None:
    """Write the picture of a run with one clip opened, which must have a wrong update: its text is shown."""
    with tempfile.TemporaryDirectory() as folder, opened_browser(Path(folder) / "profile") as browser:
        browser.open(write_report(run, Path(folder) / "report.html"), width=WIDTH)
        browser.run(
            f"""(() => {{
                for (const entry of entries) {{
                    entry.element.open = entry.clip.id === {json.dumps(clip)};
                    if (entry.element.open) document.querySelector(".key-box").after(entry.element);
                }}
            }})()"""
        )
        browser.settle()
        browser.run(
            "document.querySelector('.clip[open] .mark[data-lane=predicted_update]:not([data-look=right])').click()"
        )
        # Below the timeline, not at the bottom of the window.
        browser.run("document.querySelector('.clip[open] .detail').style.position = 'static'")
        browser.settle()
        top, bottom = browser.run(
            "[document.querySelector('#clips h2').getBoundingClientRect().top + scrollY,"
            "document.querySelector('.clip[open]').getBoundingClientRect().bottom + scrollY]"
        )
        parts = [crop(browser, 0, TOP_HEIGHT), crop(browser, top, bottom - top + GAP)]
    whole = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), "white")
    whole.paste(parts[0], (0, 0))
    whole.paste(parts[1], (0, parts[0].height))
    whole.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clip", required=True, help="id of the clip to open")
    options = parser.parse_args()
    draw(options.run, options.out, options.clip)


if __name__ == "__main__":
    main()
