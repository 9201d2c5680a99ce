"""Children: results, errors, crashes, deadlines and deaths."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgeferry.converter.child import Step, Watch, run_child
from edgeferry.converter.errors import ChildError, SamplesError

HEAD = """
import os, signal, sys, time
from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.errors import SamplesError
"""


PARENT = """
import sys, pathlib
from edgeferry.converter.child import run_child
run_child('some_child', {}, folder=pathlib.Path(sys.argv[1]), what='x', deadline_s=60)
"""


@pytest.fixture
def child(tmp_path, monkeypatch) -> Callable[..., dict[str, object]]:
    """Return a function that runs the body of a child's work as a module of its own."""

    def run(body: str, *, deadline_s: float = 30, watch: Watch | None = None, **job: object) -> dict[str, object]:
        work = "def work(job, folder):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        (tmp_path / "some_child.py").write_text(f"{HEAD}\n{work}\nchild_main(work)\n")
        monkeypatch.setenv("PYTHONPATH", path_with(tmp_path))
        return run_child(
            "some_child", job, folder=tmp_path / "work", what="making cats", deadline_s=deadline_s, watch=watch
        )

    return run


def test_a_result_comes_back(child):
    assert child("return {'twice': job['number'] * 2}", number=21) == {"twice": 42}


def test_files_stay_in_the_folder(child, tmp_path):
    child("(folder / 'made').write_text('here'); return {}")

    assert (tmp_path / "work" / "made").read_text() == "here"


def test_an_error_of_the_converter_crosses_over(child):
    with pytest.raises(SamplesError, match=r"^x is wrong$"):
        child("raise SamplesError('x is wrong')")


def test_any_other_exception_is_told_in_its_last_line(child):
    with pytest.raises(ChildError, match=r"^making cats failed while thinking hard: ValueError: too hard$"):
        child("report_step(folder, 'thinking hard'); raise ValueError('too hard')")


def test_a_crash_names_signal_step_and_last_words(child):
    body = """
        report_step(folder, 'running the model')
        print('LLVM ERROR: out of registers', flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    """

    with pytest.raises(ChildError) as caught:
        child(body)

    message = "making cats crashed with SIGSEGV while running the model: LLVM ERROR: out of registers"
    assert str(caught.value).startswith(message)


def test_a_signal_without_a_name_is_a_number(child):
    with pytest.raises(ChildError, match="crashed with signal 40"):
        child("os.kill(os.getpid(), 40)")


def test_a_child_that_takes_too_long_is_killed(child, tmp_path):
    with pytest.raises(ChildError, match="took longer than 1 s while waiting; allow more with --timeout"):
        child(
            "report_step(folder, 'waiting'); (folder / 'pid').write_text(str(os.getpid())); time.sleep(60)",
            deadline_s=1,
        )

    assert not psutil.pid_exists(int((tmp_path / "work" / "pid").read_text()))


def test_a_child_that_ends_silently_is_an_error(child):
    with pytest.raises(ChildError, match=r"^making cats failed$"):
        child("os._exit(0)")


def test_an_old_result_is_not_taken_for_a_new_one(child):
    child("return {'old': True}")

    with pytest.raises(ChildError):
        child("os._exit(0)")


def test_processes_of_the_child_end_with_it(child):
    body = """
        import subprocess
        return {'pid': subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid}
    """

    pid = child(body)["pid"]

    wait_until(lambda: is_gone(pid))


def test_the_child_dies_with_its_parent(tmp_path):
    (tmp_path / "some_child.py").write_text(
        f"{HEAD}\ndef work(job, folder):\n    (folder / 'pid').write_text(str(os.getpid()))\n    time.sleep(60)\n"
        "child_main(work)\n"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PARENT,
            str(tmp_path / "work"),
        ],
        env={**os.environ, "PYTHONPATH": path_with(tmp_path)},
    )
    pid_file = tmp_path / "work" / "pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")

    parent.send_signal(signal.SIGKILL)
    parent.wait(timeout=10)

    wait_until(lambda: is_gone(int(pid_file.read_text())))


def test_a_module_of_the_users_folder_is_not_imported(child, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert child("return {'good': True}") == {"good": True}


def path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_parent_sees_what_the_child_does_and_how_far_it_is(child, tmp_path):
    seen: list[Step] = []

    def watch(step: Step) -> None:
        seen.append(step)
        (tmp_path / "seen").touch()

    body = f"""
        report_step(folder, 'counting', done=3, total=7)
        while not os.path.exists({str(tmp_path / "seen")!r}):
            time.sleep(0.01)
        return {{}}
    """

    child(body, watch=watch)

    assert seen[0] == Step("counting", 3, 7, child="making cats")
    assert seen[-1] == Step("", child="making cats")
