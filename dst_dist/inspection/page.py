"""One HTML page of a clip: frames and texts in the order of the model's tokens."""

from collections.abc import Iterator
from html import escape

from dst_dist.data.frames import ArrowFrames, open_frames
from dst_dist.data.images import DECODE_ERRORS, thumbnail
from dst_dist.heads import HEADS
from dst_dist.inspection.pieces import MARKS, Piece, sizes_of
from dst_dist.inspection.show import ShownClip

SIZE = (128, 96)
"""Largest width and height of a frame, in pixels."""
QUALITY = 70
_STYLE = """
body { font: 14px sans-serif; max-width: 1100px; margin: 2em auto; color: #222; }
.frames { display: flex; flex-wrap: wrap; gap: 4px; margin: 6px 0; }
.frame { text-align: center; font-size: 11px; border: 2px solid #ddd; padding: 2px; }
.frame.yes { border-color: #d84315; }
pre { white-space: pre-wrap; margin: 4px 0; padding: 6px; background: #f5f5f5; border-left: 4px solid #bbb; }
pre.lm { background: #e8f5e9; border-color: #388e3c; } pre.dst_gen { background: #e3f2fd; border-color: #1976d2; }
.state { color: #555; font-size: 12px; }
"""


def page_of(shown: ShownClip) -> Iterator[str]:
    """Yield the page of a clip; a frame that cannot be read has no picture."""
    clip = shown.clip
    file = open_frames(clip.frames_path)
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(clip.id)}</title><style>{_STYLE}</style>\n"
    yield f"<h1>{escape(clip.id)}</h1>\n<p>{escape(clip.video)}, {clip.fps:g} frames a second. "
    yield "Green: trained as a reply; blue: trained as an update; grey: read but not trained. "
    yield "A frame with a red border is one where a head is to answer yes; (no) is a negative that is not drawn.</p>\n"
    for name, pieces in shown.samples.items():
        yield f"<h2>{escape(name)}: {sizes_of(pieces)}</h2>\n"
        is_open, frame = False, clip.start_frame
        for piece in pieces:
            if (piece.frame is not None) != is_open:
                is_open = not is_open
                yield "<div class=frames>" if is_open else "</div>\n"
            yield _text(piece) if piece.frame is None else _frame(piece, file, clip.fps)
            frame = frame if piece.frame is None else piece.frame
            if piece.trained == "dst_gen":
                yield f"<p class=state>state: {escape(shown.states[frame])}</p>\n"
        yield "</div>\n" if is_open else ""
    yield "</html>\n"


def _frame(piece: Piece, file: ArrowFrames, fps: float) -> str:
    kind = " yes" if 1 in piece.decisions.values() else ""
    try:
        jpeg, _ = thumbnail(file.image(piece.frame), SIZE, QUALITY)
        picture = f'<img alt="" src="data:image/jpeg;base64,{jpeg}"><br>'
    except DECODE_ERRORS:
        picture = "no picture<br>"
    return (
        f'<div class="frame{kind}">{picture}{piece.frame}, {piece.frame / fps:.1f} s<br>{escape(_answers(piece))}</div>'
    )


def _text(piece: Piece) -> str:
    text = escape(piece.text.strip())
    answers = escape(_answers(piece))
    return (f'<pre class="{piece.trained}">{text}</pre>\n' if text else "") + (f"<p>{answers}</p>\n" if answers else "")


def _answers(piece: Piece) -> str:
    return " ".join(f"{head.label}: {MARKS[piece.decisions[head.name]]}" for head in HEADS if piece.decisions)
