"""A training, or many of them, as a picture that fits the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ripstop.training.pulse import Beat
from ripstop.watch.curve import Axes, draw, label, place
from ripstop.watch.run import Watched

MOVES_NO_NUMBER = "it shows what others wrote"

STYLES = {
    "not started": "dim", "running": "green", "silent": "bold yellow", "finished": "bold green", "diverged": "bold red",
    "stopped": "yellow", "failed": "bold red", "killed": "bold red",
}  # fmt: skip
OWN = {
    "step", "loss", "lr", "grad_norm", "tokens_per_second", "mfu", "memory_bytes", "seconds", "seconds_left", "validation_loss",
}  # fmt: skip
"""Columns that have their place in the picture; the rest are the objective's, and are listed."""


class Picture:
    """One training: how far it is, its loss, its numbers, its ranks."""

    def __init__(self, watched: Watched):
        self.watched = watched

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        watched, width = self.watched, max(20, min(options.max_width, 160))
        height = 12 if not console.is_terminal else max(4, min(16, console.height - 12 - len(watched.beats)))
        parts: list[RenderableType] = [Text(str(watched.folder), style="bold", overflow="fold"), _state(watched)]
        if far := _progress(watched, width, options.ascii_only):
            parts.append(far)
        curve, held_out = watched.series("loss"), watched.series("validation_loss")
        if curve or held_out:
            parts += [Text(), *_chart(curve, held_out, width, height, options.ascii_only)]
        if watched.rows:
            parts += [Text(), _numbers(watched, width)]
        if watched.beats:
            parts += [Text(), *(_rank(watched, beat) for beat in watched.beats)]
        yield Group(*parts)


class Pictures:
    """Several trainings, a line each; what a narrow terminal has no room for is left out."""

    def __init__(self, watched: Sequence[Watched]):
        self.watched = watched

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide, middle = options.max_width >= 110, options.max_width >= 72
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        table.add_column("run", overflow="fold", ratio=1 if not wide else None)
        for name, shown in (
            ("state", True), ("step", True), ("loss", True), ("held-out", middle), ("tokens/s", wide), ("left", middle)
        ):  # fmt: skip
            if shown:
                table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
        for one in self.watched:
            cells: list[str | Text] = [Text(one.folder.name), Text(one.state, style=STYLES[one.state])]
            cells += [f"{one.step:,}/{one.steps:,}" if one.steps else f"{one.step:,}" if one.rows else "", _cell(one, "loss")]
            cells += [_cell(one, "validation_loss")] * middle
            speed = one.last("tokens_per_second")
            cells += [f"{speed:,.0f}" if speed is not None else ""] * wide
            cells += [duration(one.seconds_left) if one.state == "running" and one.seconds_left is not None else ""] * middle
            table.add_row(*cells)
        counts = {state: sum(one.state == state for one in self.watched) for state in STYLES}
        said = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
        yield Group(table, Text(), Text(f"{len(self.watched)} trainings: {said}"))


def duration(seconds: float) -> str:
    """`0:03:12`, and `2 days, 0:03:12`."""
    return str(timedelta(seconds=round(seconds)))


def ago(seconds: float) -> str:
    """An age in one unit."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _state(watched: Watched) -> Text:
    said = Text(watched.state, style=STYLES[watched.state], overflow="fold")
    if watched.why:
        said.append(f": {watched.why}", style="default")
    return said


def _progress(watched: Watched, width: int, ascii_only: bool) -> Text | None:
    if not watched.steps and not watched.rows:
        return None
    seconds = watched.last("seconds")
    said = [f"step {watched.step:,}/{watched.steps:,}" if watched.steps else f"step {watched.step:,}"]
    if seconds is not None:
        said.append(f"{duration(seconds)} gone")
    if watched.state in ("running", "silent") and watched.seconds_left is not None:
        said.append(f"{duration(watched.seconds_left)} left")
    text = "  ".join(said)
    if watched.steps:
        part = min(1.0, watched.step / watched.steps)
        room = width - len(text) - 8
        if room >= 10:
            full = int(part * room)
            done, rest = ("#", ".") if ascii_only else ("━", "─")
            return Text.assemble((done * full, "green"), (rest * (room - full), "dim"), f" {part:>4.0%}  {text}")
        text = f"{part:.0%}  {text}"
    return Text(text)


def _chart(
    curve: Sequence[tuple[float, float]], held_out: Sequence[tuple[float, float]], width: int, height: int, ascii_only: bool
) -> list[Text]:
    """The loss as a line, what was held out as rings over it, with the axes' ends."""
    axes = Axes.around(curve, held_out)
    columns = width - 10
    ring = "o" if ascii_only else "○"
    rings = {place(x, y, axes, columns, height) for x, y in held_out}
    lines = []
    for row, drawn in enumerate(draw(curve, axes, columns, height, ascii_only)):
        value = label(axes.at(1 - row / max(1, height - 1)))
        line = Text(f"{value if row in (0, height // 2, height - 1) else '':>8} ")
        line.append("|" if ascii_only else "┤" if row in (0, height // 2, height - 1) else "│", style="dim")
        for column, character in enumerate(drawn):
            held = (column, row) in rings
            line.append(ring if held else character, style="yellow" if held else "cyan")
        lines.append(line)
    end = f"step {axes.right:,.0f}"
    legend = f"loss{f', {ring} held out' if rings else ''}{', logarithmic' if axes.log else ''}"
    lines.append(Text(f"{'0':>10} {legend:^{max(0, columns - len(end) - 1)}}{end}", no_wrap=True, overflow="crop"))
    return lines


def _numbers(watched: Watched, width: int) -> Table:
    """Names and values in pairs: as many beside each other as there is room for."""
    pairs = [("loss", _value(watched, "loss", "{:.4f}"))]
    held_out = watched.series("validation_loss")
    if held_out:
        step, best = min(held_out, key=lambda point: point[1])
        pairs += [("held-out loss", f"{held_out[-1][1]:.4f}"), ("best held out", f"{best:.4f} at {step:,.0f}")]
    took = watched.step_seconds
    memory = watched.last("memory_bytes")
    pairs += [
        ("tokens/s", _value(watched, "tokens_per_second", "{:,.0f}")),
        ("mfu", _value(watched, "mfu", "{:.1%}")),
        ("memory", "" if memory is None else f"{memory / 1e9:.2f} GB"),
        ("a step", "" if took is None else f"{1000 * took:,.1f} ms" if took < 1 else f"{took:,.2f} s"),
        ("learning rate", _value(watched, "lr", "{:.2e}")),
        ("gradient norm", _value(watched, "grad_norm", "{:.3g}")),
    ]
    others = dict.fromkeys(name for row in watched.rows[-50:] for name in row if name not in OWN)
    pairs += [(name, _value(watched, name, "{:.4g}")) for name in others]
    pairs = [(name, value) for name, value in pairs if value]
    beside = max(1, min(4, width // 36))
    table = Table.grid(padding=(0, 1), expand=False)
    for number in range(beside):
        table.add_column(style="dim", overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        if number < beside - 1:
            table.add_column(width=2)
    for start in range(0, len(pairs), beside):
        row = pairs[start : start + beside]
        cells = [cell for name, value in row for cell in (Text(name), Text(value), Text())]
        table.add_row(*cells[: 3 * beside - 1])
    return table


def _rank(watched: Watched, beat: Beat) -> Text:
    age = watched.age(beat)
    step = "-" if beat.step is None else f"{beat.step:,}"
    line = Text(f"rank {beat.rank} of {beat.n_ranks}  step {step}  {beat.phase}  ", overflow="fold")
    quiet = age > watched.silence and watched.state in ("running", "silent")
    line.append(f"beat {ago(age)} ago", style="bold yellow" if quiet else "default")
    line.append(f"  process {beat.pid} on {beat.host}", style="dim")
    if quiet:
        line.append(f"  no beat: `kill -USR1 {beat.pid}` there shows its stacks", style="bold yellow")
    return line


def _cell(watched: Watched, column: str) -> str:
    return _value(watched, column, "{:.4f}")


def _value(watched: Watched, column: str, form: str) -> str:
    value = watched.last(column)
    return "" if value is None else form.format(value)
