"""Tables of measurements as windows, and tables that cannot be."""

from pathlib import Path

import pytest

from edgeferry.converter.errors import ConverterError, RequestError, SamplesError
from edgeferry.converter.preparing.gathering import gather
from edgeferry.converter.preparing.series import read_windows
from edgeferry.converter.samples import Samples
from edgeferry.inference.preprocessing import SeriesPreprocessing

TABLE = """time,x,y,what,who
0,1,10,walk,ann
1,2,20,walk,ann
2,3,30,walk,ann
3,4,40,sit,ann
4,5,50,sit,ann
5,6,60,sit,bob
6,7,70,sit,bob
"""


def declared(*columns: str, window: int | None = 2, **more) -> SeriesPreprocessing:
    return SeriesPreprocessing(columns=columns or ("x", "y"), window=window, **more)


def saved(path: Path, text: str = TABLE) -> Path:
    path.write_text(text)
    return path


def firsts(path: Path, preprocessing: SeriesPreprocessing) -> list[float]:
    return [float(one.values[0, 0, 0]) for one in read_windows(path, preprocessing)]


def test_columns_are_taken_by_name_in_the_order_that_is_declared(tmp_path):
    first = next(read_windows(saved(tmp_path / "t.csv"), declared("y", "x")))

    assert first.values.tolist() == [[[10, 1], [20, 2]]]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, [1, 3, 5]),
        ({"hop": 1}, [1, 2, 3, 4, 5, 6]),
        ({"label": "what", "hop": 1}, [1, 2, 4, 5, 6]),
        ({"group": "who"}, [1, 3, 6]),
        ({"label": "what", "group": "who"}, [1, 4, 6]),
    ],
)
def test_a_window_never_spans_two_labels_or_groups(tmp_path, more, wanted):
    assert firsts(saved(tmp_path / "t.csv"), declared(**more)) == wanted


def test_without_a_window_each_row_is_an_input(tmp_path):
    rows = [one.values for one in read_windows(saved(tmp_path / "t.csv"), declared(window=None, label="what"))]

    assert (len(rows), rows[3].tolist()) == (7, [[4, 40]])


def test_another_delimiter_and_marks_of_other_tools_are_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbf "x";y\r\n1;2\r\n\r\n3;"4"\r\n'.replace(b' "x"', b'"x"'))

    assert firsts(path, declared(delimiter=";")) == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: preprocessing wants a column 'x', but the first line has none"),
        ("x1,y\n1,2\n", 'the first line has none; did you mean "x1"?'),
        ("x,y,x\n1,2,3\n", "the first line names it twice"),
        ("x,y\n1,2\n3,nan\n", ":3: column 'y' holds 'nan'; wanted a number: fill or remove it"),
        ("x,y\n1,\n", ":2: column 'y' holds ''"),
        ("x,y\n1,two\n", ":2: column 'y' holds 'two'"),
        ("x,y\n1,1e60\n", ":2: column 'y' holds '1e60'"),
        ("x,y\n1,2,3\n", ":2: has 3 values, the first line names 2 columns"),
        ("x,y\n1,2\n", "has 1 rows on end at most, a window wants 2; remove it"),
        ('x,y\n1,"2', "cannot be read as a table"),
        ("x,y\n1," + "2" * 200_000, "cannot be read as a table: field larger than field limit"),
    ],
)
def test_what_is_no_table_of_numbers_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(SamplesError) as caught:
        list(read_windows(saved(tmp_path / "t.csv", text), declared()))

    assert str(caught.value).startswith(str(tmp_path / "t.csv"))
    assert message in str(caught.value)


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"x,y\n\xff\xfe,1\n")

    with pytest.raises(SamplesError, match=r"cannot be read as a table: .*save it as UTF-8"):
        list(read_windows(tmp_path / "t.csv", declared()))


def gathered(tmp_path: Path, source: Path, preprocessing: SeriesPreprocessing, *classes: str) -> Samples:
    (tmp_path / "made").mkdir()
    gather(source, preprocessing, classes, tmp_path / "made", tmp_path)
    return Samples.load(tmp_path / "made")


def test_a_column_of_names_gives_labels_and_their_names(tmp_path):
    preprocessing = declared(label="what", mean=(1.0, 10.0), std=(1.0, 10.0))

    samples = gathered(tmp_path, saved(tmp_path / "t.csv"), preprocessing)

    assert (samples.classes, samples.labels.tolist()) == (("sit", "walk"), [1, 0, 0])
    assert samples.arrays["x"][0:1].tolist() == [[[0, 0], [1, 1]]]


def test_a_column_of_whole_numbers_is_taken_as_classes(tmp_path):
    table = saved(tmp_path / "t.csv", "x,y,kind\n1,2,7\n1,2,7\n3,4,0\n3,4,0\n")

    samples = gathered(tmp_path, table, declared(label="kind"))

    assert (samples.classes, samples.labels.tolist()) == ((), [7, 0])


def test_names_may_say_in_which_order_the_model_has_its_classes(tmp_path):
    samples = gathered(tmp_path, saved(tmp_path / "t.csv"), declared(label="what"), "walk", "run", "sit")

    assert samples.labels.tolist() == [0, 2, 2]


@pytest.mark.parametrize(
    ("layout", "classes", "message"),
    [
        ("folder", (), "has a folder for each class, and preprocessing names the label column 'what'"),
        ("file", ("walk", "run"), "column 'what' has 'sit', which is none of the model's classes"),
        ("empty label", (), "t.csv:2: column 'what' is empty; fill it, or remove the row"),
        ("picture", (), "--preprocessing tells of tables: wanted .csv, .tsv, .txt"),
    ],
)
def test_labels_that_contradict_each_other_are_refused(tmp_path, layout, classes, message):
    source = tmp_path / ("t.png" if layout == "picture" else "t.csv")
    if layout == "folder":
        source = tmp_path / "data"
        (source / "walk").mkdir(parents=True)
        saved(source / "walk" / "t.csv")
    else:
        saved(source, "x,y,what\n1,2,\n" if layout == "empty label" else TABLE)

    with pytest.raises(ConverterError) as caught:
        gathered(tmp_path, source, declared(label="what"), *classes)

    assert message in str(caught.value)


def test_a_label_column_with_a_number_for_each_row_is_no_column_of_classes(tmp_path):
    table = saved(tmp_path / "t.csv", "x,y,what\n" + "".join(f"1,2,{at / 7}\n" for at in range(10_002)))

    with pytest.raises(SamplesError, match="'what' has more than 10000 values; wanted classes"):
        gathered(tmp_path, table, declared(label="what"))


def test_folders_of_tables_are_classes(tmp_path):
    for name in ("walk", "sit"):
        (tmp_path / "data" / name).mkdir(parents=True)
        saved(tmp_path / "data" / name / "t.csv")

    samples = gathered(tmp_path, tmp_path / "data", declared())

    assert (samples.classes, samples.labels.tolist()) == (("sit", "walk"), [0, 0, 0, 1, 1, 1])


def test_a_missing_label_column_is_told(tmp_path):
    with pytest.raises((SamplesError, RequestError), match="wants a column 'kind'"):
        gathered(tmp_path, saved(tmp_path / "t.csv"), declared(label="kind"))
