"""What `fit` shows as it goes: a bar with loss, rate and time left."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def follow(epochs: int, shown: bool) -> Iterator[Callable[[Any], None]]:
    """A function to call with each `EpochReport`; it draws nothing unless `shown`."""
    if not shown:
        yield lambda report: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=epochs, text="compiling")

        def show(report) -> None:
            text = "  ".join(f"{name} {value:.4f}" for name, value in report.measures.items())
            if report.learning_rate is not None:
                text += f"  rate {report.learning_rate:.2g}"
            bar.update(task, advance=1, text=text)

        yield show
