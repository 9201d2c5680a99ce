"""Which files of a folder are samples, and of which class."""

from pathlib import Path

import pytest

from edgeferry.converter.errors import ConverterError, RequestError, SamplesError
from edgeferry.converter.preparing.files import find_files


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root: Path, *classes: str):
    files = find_files(root, {".png", ".jpg"}, what="pictures", classes=classes)
    return {str(one.path.relative_to(root)): one.label for one in files.files}, files.classes


def test_folders_are_classes_in_the_order_of_their_names(tmp_path):
    folder_of(tmp_path, "dog/b.png", "dog/a.JPG", "cat/2.png", "cat/10.png", "cat/more/3.png")

    files, classes = found(tmp_path)

    assert classes == ("cat", "dog")
    assert files == {"cat/10.png": 0, "cat/2.png": 0, "cat/more/3.png": 0, "dog/a.JPG": 1, "dog/b.png": 1}


def test_a_flat_folder_has_no_labels(tmp_path):
    assert found(folder_of(tmp_path, "b.png", "a.png")) == ({"a.png": None, "b.png": None}, ())


def test_names_may_say_in_which_order_the_model_has_its_classes(tmp_path):
    folder_of(tmp_path, "cat/1.png", "dog/1.png")

    assert found(tmp_path, "dog", "horse", "cat") == ({"cat/1.png": 2, "dog/1.png": 0}, ("dog", "horse", "cat"))


def test_a_folder_that_is_no_class_is_refused(tmp_path):
    with pytest.raises(RequestError, match="the folder 'cat' is none of the model's 2 classes"):
        found(folder_of(tmp_path, "cat/1.png"), "dog", "horse")


def test_hidden_files_and_what_stands_beside_classes_is_left_out(tmp_path):
    folder_of(tmp_path, "cat/1.png", "cat/.DS_Store", ".git/config", "LICENSE.txt")

    assert found(tmp_path)[0] == {"cat/1.png": 0}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("notes.txt",), "notes.txt: is not one of .jpg, .png; convert it, move it away, or hide it"),
        (("a.png", "b.heic"), "b.heic: is not one of .jpg, .png"),
        (("cat/1.png", "cat/b.txt"), "cat/b.txt: is not one of"),
        (("cat/1.png", "2.png"), "has pictures beside folders, '2.png' beside 'cat'"),
        ((".hidden.png",), "holds no pictures (.jpg, .png), and no folders of them"),
        (("cat/1.png", "dog/.keep"), "dog: this class holds no pictures (.jpg, .png); add some, or remove its folder"),
    ],
)
def test_nothing_is_left_out_in_silence(tmp_path, names, message):
    with pytest.raises(ConverterError) as caught:
        found(folder_of(tmp_path, *names))

    assert message in str(caught.value)


def test_links_to_folders_are_refused_because_nobody_would_notice_their_change(tmp_path):
    folder_of(tmp_path / "real", "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "real")

    with pytest.raises(SamplesError, match="'cat' is a link to a folder"):
        found(tmp_path / "data")


def test_links_to_files_are_files(tmp_path):
    folder_of(tmp_path / "real", "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.png").symlink_to(tmp_path / "real" / "1.png")

    assert found(tmp_path / "data")[0] == {"one.png": None}
