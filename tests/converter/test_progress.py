"""Progress: sparse lines for a log, a bar for a person, and how long it will still take."""

import io

from rich.console import Console
from rich.progress import Progress, TextColumn

from edgeferry.converter.child import Step, report_step
from edgeferry.converter.progress import LineFace, Pace, TerminalFace, face_for


class Clock:
    """Time as a number that the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_time_left_follows_from_the_pace():
    pace = Pace()
    pace.left_s(Step("running", 0, 100), 10.0)

    assert pace.left_s(Step("running", 25, 100), 20.0) == 30.0


def test_no_time_is_told_that_nobody_knows():
    pace = Pace()

    assert pace.left_s(Step("running", 0, 0), 1.0) is None
    assert pace.left_s(Step("running", 1, 100), 5.0) is None
    assert pace.left_s(Step("running", 200, 100), 5.0) is None


def test_a_step_of_the_same_name_that_counts_anew_begins_anew():
    pace = Pace()
    pace.elapsed_s(Step("running", 90, 100), 0.0)

    assert pace.elapsed_s(Step("running", 1, 100), 50.0) == 0.0


def test_a_log_gets_a_line_for_each_piece_of_work_and_one_now_and_then():
    stream, clock = io.StringIO(), Clock()
    face = LineFace(stream, clock)
    face.say("making int8")
    for second in range(25):
        clock.now_s = float(second)
        face.watch(Step("calibrating", second, 100))

    assert stream.getvalue().splitlines() == [
        "making int8",
        "still calibrating, 10 of 100, 1 min 30 s left",
        "still calibrating, 20 of 100, 1 min 20 s left",
    ]


def test_a_log_is_told_of_work_that_nobody_counts():
    stream, clock = io.StringIO(), Clock()
    face = LineFace(stream, clock)
    clock.now_s = 10.0
    face.watch(Step("loading"))

    assert stream.getvalue() == "still loading\n"


def terminal(clock: Clock) -> tuple[TerminalFace, Progress]:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    bars = Progress(TextColumn("{task.description}"), console=console, auto_refresh=False)
    return TerminalFace(bars, clock), bars


def test_what_is_over_within_two_seconds_gets_no_bar():
    clock = Clock()
    face, bars = terminal(clock)
    face.watch(Step("running", 1, 10))
    clock.now_s = 1.9
    face.watch(Step("running", 9, 10))

    assert bars.tasks == []


def test_a_bar_moves_tells_the_time_left_and_goes_with_its_step():
    clock = Clock()
    face, bars = terminal(clock)
    face.watch(Step("running", 0, 10))
    clock.now_s = 4.0
    face.watch(Step("running", 4, 10))

    (task,) = bars.tasks
    assert (task.description, task.completed, task.total, task.fields["left"]) == ("running", 4, 10, "6 s left")

    face.watch(Step("loading"))
    assert bars.tasks == []

    clock.now_s = 8.0
    face.watch(Step("loading"))
    assert [(task.total, task.fields["left"]) for task in bars.tasks] == [(None, "")]

    face.watch(Step(""))
    assert bars.tasks == []

    face.say("writing [bold]cats[/bold]")
    assert "writing [bold]cats[/bold]" in bars.console.file.getvalue()


def test_children_that_run_at_the_same_time_have_a_bar_each():
    clock = Clock()
    face, bars = terminal(clock)
    for now_s in (0.0, 3.0):
        clock.now_s = now_s
        face.watch(Step("running", int(now_s), 10, child="int8"))
        face.watch(Step("calibrating", int(now_s), 20, child="int16x8"))

    assert [(task.description, task.total) for task in bars.tasks] == [("running", 10), ("calibrating", 20)]

    face.watch(Step("", child="int8"))
    assert [task.description for task in bars.tasks] == ["calibrating"]


def test_a_log_forgets_a_child_that_has_ended():
    clock = Clock()
    face = LineFace(io.StringIO(), clock)
    face.watch(Step("running", 0, 10, child="int8"))
    face.watch(Step("", child="int8"))

    assert not face._paces


def test_a_pipe_gets_lines_and_a_terminal_a_bar():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with face_for(io.StringIO()) as plain, face_for(Terminal()) as drawn:
        assert isinstance(plain, LineFace)
        assert isinstance(drawn, TerminalFace)


def test_a_child_that_counts_fast_writes_seldom(tmp_path):
    report_step(tmp_path, "running", done=0, total=1000)
    before = (tmp_path / "step.txt").stat().st_mtime_ns
    for done in range(1, 1000):
        report_step(tmp_path, "running", done=done, total=1000)
        if (tmp_path / "step.txt").stat().st_mtime_ns != before:
            break  # a tenth of a second is over on a slow machine
    else:
        assert (tmp_path / "step.txt").read_text() == "running\n0 1000"

    report_step(tmp_path, "running", done=1000, total=1000)
    assert (tmp_path / "step.txt").read_text() == "running\n1000 1000"
