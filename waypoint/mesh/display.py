"""Output of `mesh up`: a spinner on a terminal, or one plain line per change.

Messages go to standard error, and the addresses to standard output. rich respects NO_COLOR, TERM=dumb and the
terminal's width itself.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text


class Display:
    def __init__(self) -> None:
        self._talk = Console(stderr=True, soft_wrap=True)
        self._data = Console(soft_wrap=True)
        self._progress: Progress | None = None
        self._ready: AbstractSet[str] = frozenset()

    def say(self, sentence: str, style: str = "") -> None:
        self._talk.print(Text(sentence, style=style))

    def show(self, ready: AbstractSet[str], wanted: AbstractSet[str]) -> None:
        """Show which of the wanted programs are ready."""
        if not self._talk.is_terminal:
            for name in sorted(ready - self._ready):
                self.say(f"{name} is ready ({len(ready)} of {len(wanted)})")
        elif waiting := sorted(wanted - ready):
            self._spin(f"{len(ready)} of {len(wanted)} programs are ready, waiting for {', '.join(waiting)}")
        else:
            self.rest()
        self._ready = ready

    def rest(self) -> None:
        """Stop the spinner."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def table(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Print name, address and explanation. Lines are never truncated, so that addresses stay whole."""
        names, addresses = (max(len(row[column]) for row in rows) for column in (0, 1))
        for name, address, explanation in rows:
            line = Text.assemble(
                (f"{name:{names}}  ", "bold"), (f"{address:{addresses}}  ", "cyan"), (explanation, "dim")
            )
            self._data.print(line)

    def _spin(self, sentence: str) -> None:
        if self._progress is None:
            columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
            self._progress = Progress(*columns, console=self._talk, transient=True)
            self._progress.add_task("")
            self._progress.start()
        for task in self._progress.task_ids:
            self._progress.update(task, description=sentence)
