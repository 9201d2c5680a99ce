from pathlib import Path

import pytest

from edgeferry.agent.blackbox import SLOTS, Blackbox, Running, read_running


@pytest.fixture
def blackbox(tmp_path: Path) -> Blackbox:
    made = Blackbox(tmp_path / "blackbox")
    made.open()
    return made


def test_what_is_being_run_is_read_back_the_longest_first(blackbox: Blackbox, tmp_path: Path) -> None:
    first, second = blackbox.recorder("digits", 7), blackbox.recorder("cats", 2)
    first.begin(200)
    second.begin(100)

    assert read_running(tmp_path / "blackbox") == (Running("cats", 2, 100), Running("digits", 7, 200))


def test_a_run_that_has_ended_leaves_no_note(blackbox: Blackbox, tmp_path: Path) -> None:
    recorder = blackbox.recorder("digits", 7)
    recorder.begin(1)

    recorder.end()

    assert read_running(tmp_path / "blackbox") == ()


def test_the_notes_are_their_owners_alone(blackbox: Blackbox, tmp_path: Path) -> None:
    assert blackbox
    assert (tmp_path / "blackbox").stat().st_mode & 0o777 == 0o600


def test_opening_forgets_what_was_noted_before(blackbox: Blackbox, tmp_path: Path) -> None:
    blackbox.recorder("digits", 7).begin(1)

    Blackbox(tmp_path / "blackbox").open()

    assert read_running(tmp_path / "blackbox") == ()


def test_a_slot_is_used_again_after_its_version_has_gone(blackbox: Blackbox, tmp_path: Path) -> None:
    recorders = [blackbox.recorder("digits", number) for number in range(SLOTS)]
    beyond = blackbox.recorder("late", 1)
    beyond.begin(1)
    blackbox.release(beyond)
    recorders[3].begin(1)

    blackbox.release(recorders[3])
    again = blackbox.recorder("cats", 9)
    again.begin(5)

    assert not beyond.is_kept
    assert read_running(tmp_path / "blackbox") == (Running("cats", 9, 5),)


def test_without_a_file_nothing_is_noted(tmp_path: Path) -> None:
    blackbox = Blackbox(None)
    blackbox.open()

    blackbox.recorder("digits", 1).begin(1)

    assert read_running(tmp_path / "blackbox") == ()


def test_a_torn_file_gives_what_is_whole(blackbox: Blackbox, tmp_path: Path) -> None:
    blackbox.recorder("digits", 7).begin(1)
    whole = (tmp_path / "blackbox").read_bytes()

    (tmp_path / "torn").write_bytes(whole[:100])

    assert read_running(tmp_path / "torn") == (Running("digits", 7, 1),)
