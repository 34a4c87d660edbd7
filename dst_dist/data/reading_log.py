"""Collects findings while data files are read: faults, which stop the run, and others, which are only counted."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

EXAMPLES_PER_KIND = 3
FAULTS_PER_FILE = 20


class Report:
    """Counts of everything that was corrected, dropped or replaced, with the first few examples of each kind."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)

    def count(self, kind: str, example: str, number: int = 1) -> None:
        """Add a number to `kind`, a phrase in the plural; `example` names the place."""
        self.counts[kind] += number
        if len(self.examples[kind]) < EXAMPLES_PER_KIND:
            self.examples[kind].append(example)

    def add(self, other: "Report") -> None:
        """Add the counts of what was read after this."""
        self.counts.update(other.counts)
        for kind, examples in other.examples.items():
            self.examples[kind] = (self.examples[kind] + examples)[:EXAMPLES_PER_KIND]

    def lines(self) -> list[str]:
        """Return one line for each kind."""
        return [
            f"{number} {kind}, for example: {'; '.join(self.examples[kind])}" for kind, number in self.counts.items()
        ]


@dataclass
class FileFaults:
    """The faults of one file."""

    file: str
    texts: list[str] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    """Faults that several clips may have; only the first clip is named."""

    def add(self, text: str) -> None:
        """Add a fault: what is wrong and what to do about it."""
        # JSON can spell half of a surrogate pair, which no terminal can print.
        self.texts.append(f"{self.file}: {text}".encode("utf-8", "backslashreplace").decode())

    def lines(self) -> list[str]:
        """Return the first `FAULTS_PER_FILE` faults, and how many more there are."""
        num_more = len(self.texts) - FAULTS_PER_FILE
        more = [f"{self.file}: and {num_more} more faults in this file"] if num_more > 0 else []
        return self.texts[:FAULTS_PER_FILE] + more


@dataclass(slots=True)
class ClipLog:
    """Collects what is found in one clip. `place` names a part of the clip, such as `turn 3 (user)`.

    With `strict` (recipe `data.strict`) a contradiction is a fault.
    """

    clip: str
    file_faults: FileFaults
    report: Report
    strict: bool = False
    failed: bool = False

    def fault(self, text: str, place: str = "") -> None:
        """Add a fault, which makes the clip unusable."""
        self.failed = True
        self.file_faults.add(f"{self._name(place)}: {text}")

    def shared_fault(self, text: str) -> None:
        """Add a fault that other clips of the file may have too; only the first of them is named."""
        self.failed = True
        if text not in self.file_faults.shared:
            self.file_faults.shared.add(text)
            self.fault(text)

    def count(self, kind: str, place: str = "", detail: str = "") -> None:
        """Count something that does not make the clip unusable."""
        self.report.count(kind, self._name(place) + (f" ({detail})" if detail else ""))

    def contradiction(self, kind: str, place: str = "", detail: str = "") -> None:
        """Count where a clip contradicts itself; a fault if the log is strict.

        Args:
            kind: what contradicts, in the plural, and behind a comma what is done about it.
        """
        if self.strict:
            self.fault(f"{detail}, is not allowed: data.strict refuses {kind.partition(',')[0]}", place)
        else:
            self.count(kind, place, detail)

    def _name(self, place: str) -> str:
        return f"clip {self.clip}, {place}" if place else f"clip {self.clip}"
