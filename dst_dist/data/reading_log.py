"""What reading the data finds: faults, which stop the run, and things that are merely counted."""

from collections import Counter
from dataclasses import dataclass

EXAMPLES_PER_KIND = 3
FAULTS_PER_FILE = 20


class Report:
    """Counts of everything that was corrected, dropped or replaced, with the first few examples of each kind."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def count(self, kind: str, example: str) -> None:
        """One more of `kind`, a phrase in the plural; `example` says where."""
        self.counts[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES_PER_KIND:
            examples.append(example)

    def lines(self) -> list[str]:
        """One line a kind, for people."""
        return [
            f"{number} {kind}, for example: {'; '.join(self.examples[kind])}" for kind, number in self.counts.items()
        ]


class FileFaults:
    """The faults of one file: all are counted, the first `FAULTS_PER_FILE` are kept as text."""

    def __init__(self, file: str):
        self.file = file
        self.total = 0
        self._texts: list[str] = []

    def add(self, text: str) -> None:
        """`text` says what is wrong and what to do; the file's name is put before it."""
        self.total += 1
        if len(self._texts) < FAULTS_PER_FILE:
            self._texts.append(f"{self.file}: {text}")

    def lines(self) -> list[str]:
        """The texts, and how many more faults there are."""
        hidden = self.total - len(self._texts)
        return [*self._texts, f"{self.file}: and {hidden} more faults in this file"] if hidden else list(self._texts)


@dataclass(slots=True)
class ClipLog:
    """Where the reading of one clip puts what it finds. `turn` is a label such as `turn 3 (user)`."""

    clip: str
    file_faults: FileFaults
    report: Report
    failed: bool = False

    def fault(self, text: str, turn: str = "") -> None:
        """Something that makes the clip unusable."""
        self.failed = True
        self.file_faults.add(f"{self._place(turn)}: {text}")

    def count(self, kind: str, turn: str = "", detail: str = "") -> None:
        """Something that is only counted."""
        self.report.count(kind, f"{self._place(turn)} ({detail})" if detail else self._place(turn))

    def _place(self, turn: str) -> str:
        return f"clip {self.clip}, {turn}" if turn else f"clip {self.clip}"
