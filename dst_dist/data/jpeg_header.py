"""Recognises plain JPEG headers by their markers alone, several times as fast as Pillow opens the image."""

MAX_PIXELS = 64_000_000
"""Largest image that is decoded."""
APP0, START_OF_SCAN, TABLES = 0xE0, 0xDA, 0xDB
SKIPPED = (0xC4, 0xDD, 0xFE)
"""Huffman tables, restart interval and comment: Pillow reads past them too."""
FRAMES = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive frames."""


def plain_header(jpeg: bytes) -> bytes:
    """Return the whole header with which the bytes begin, if it is one as encoders of videos write it.

    Pillow accepts it. Empty bytes decide nothing: the header may be of a rarer kind, longer than the bytes given, or
    damaged; Pillow decides.
    """
    if jpeg[:2] != b"\xff\xd8":
        return b""
    place, has_frame = 2, False
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF:
        marker, length = jpeg[place + 1], jpeg[place + 2] << 8 | jpeg[place + 3]
        content, place = place + 4, place + 2 + length
        if length < 2 or place > len(jpeg):
            return b""
        if marker == START_OF_SCAN:
            return jpeg[:place] if has_frame else b""
        if marker in FRAMES:
            if has_frame or not _is_plain_frame(jpeg[content:place]):
                return b""
            has_frame = True
        elif marker == TABLES:
            # Tables of 64 bytes, each behind a byte with its number.
            if (length - 2) % 65 or max(jpeg[content:place:65], default=0) > 3:
                return b""
        elif marker == APP0:
            if length < 16 or jpeg[content : content + 5] != b"JFIF\0":
                return b""
        elif marker not in SKIPPED:
            return b""
    return b""


def _is_plain_frame(frame: bytes) -> bool:
    """Return whether a frame header has 8 bits, one or three components, and a size that is decoded."""
    if len(frame) < 6 or frame[0] != 8 or frame[5] not in (1, 3) or len(frame) != 6 + 3 * frame[5]:
        return False
    height, width = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]
    return 0 < width * height <= MAX_PIXELS
