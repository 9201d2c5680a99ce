"""What a fingerprint counts, and what not."""

from pathlib import Path

from edgeferry.converter.fingerprints import Fingerprints


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("same")
    return root


def test_a_folder_is_the_names_and_bytes_of_its_files(tmp_path):
    one = folder_of(tmp_path / "one", "a/1.png", "b.txt")
    same = folder_of(tmp_path / "same", "b.txt", "a/1.png")
    renamed = folder_of(tmp_path / "renamed", "a/2.png", "b.txt")
    known = Fingerprints()

    assert known.of(one) == known.of(same)
    assert known.of(one) != known.of(renamed)
    assert known.of(one).size_bytes == 8


def test_hidden_files_do_not_count_because_nobody_reads_them(tmp_path):
    plain = folder_of(tmp_path / "plain", "a/1.png")
    looked_at = folder_of(tmp_path / "looked_at", "a/1.png", ".DS_Store", "a/.thumbnails/1.png")

    assert Fingerprints().of(plain) == Fingerprints().of(looked_at)


def test_a_folder_whose_own_path_is_hidden_counts(tmp_path):
    one, two = folder_of(tmp_path / ".cache" / "one", "a"), folder_of(tmp_path / "two", "a", "b")

    assert Fingerprints().of(one).size_bytes == 4
    assert Fingerprints().of(one) != Fingerprints().of(two)


def test_a_file_that_is_written_again_is_hashed_again(tmp_path):
    known = Fingerprints()
    before = known.of(folder_of(tmp_path, "a"))

    (tmp_path / "a").write_text("other bytes")

    assert known.of(tmp_path) != before
