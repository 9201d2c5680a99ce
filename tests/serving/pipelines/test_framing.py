"""Samples cut from streams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeferry.agent.serving.pipelines.framing import FrameFramer, Framer, JpegFramer, LineFramer

IMAGE = b"\xff\xd8\xff\xe0" + bytes(range(200)) + b"\xff\x00\x00" + b"\xff\xd9"


def fed(framer: Framer, *pieces: bytes) -> list[bytes]:
    return [sample for piece in pieces for sample in framer.feed(piece)]


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


class TestFrames:
    def test_frames_of_a_size_follow_one_another(self) -> None:
        assert fed(FrameFramer(3), b"abcdefgh", b"i") == [b"abc", b"def", b"ghi"]

    def test_windows_may_overlap(self) -> None:
        assert fed(FrameFramer(4, 2), b"abcdefgh") == [b"abcd", b"cdef", b"efgh"]

    def test_windows_may_have_gaps(self) -> None:
        assert fed(FrameFramer(2, 5), b"ab", b"xxxc", b"dyyyef") == [b"ab", b"cd", b"ef"]

    @given(st.binary(max_size=60), st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7), st.integers(1, 9))
    def test_it_matters_nothing_how_the_bytes_come(self, data: bytes, sizes: list[int], size: int, step: int) -> None:
        assert fed(FrameFramer(size, step), *pieces_of(data, sizes)) == fed(FrameFramer(size, step), data)


class TestLines:
    def test_each_line_is_a_sample_and_an_empty_one_is_none(self) -> None:
        assert fed(LineFramer(), b"1,2\r\n\n3", b",4\n5") == [b"1,2", b"3,4"]

    def test_a_line_without_an_end_is_given_up(self) -> None:
        framer = LineFramer(max_bytes=10)

        assert fed(framer, b"x" * 11, b"\n1\n") == [b"1"]
        assert framer.spoilt == 1


class TestJpeg:
    def test_images_follow_one_another(self) -> None:
        assert fed(JpegFramer(), IMAGE * 3) == [IMAGE] * 3

    @given(st.lists(st.integers(0, 150), max_size=8))
    def test_it_matters_nothing_how_the_bytes_come(self, sizes: list[int]) -> None:
        assert fed(JpegFramer(), *pieces_of(IMAGE * 2, sizes)) == [IMAGE] * 2

    def test_what_is_between_images_is_skipped_and_counted(self) -> None:
        framer = JpegFramer()

        assert fed(framer, b"--boundary\r\n" + IMAGE) == [IMAGE]
        assert framer.spoilt >= 1

    def test_bytes_without_an_image_are_not_kept(self) -> None:
        framer = JpegFramer()

        assert fed(framer, b"nothing of the kind" * 1000) == []
        assert framer.spoilt == 1
        assert len(framer._buffer) < 3

    def test_an_image_that_never_ends_is_given_up(self) -> None:
        framer = JpegFramer(max_bytes=1000)

        assert fed(framer, IMAGE[:-2] + bytes(1000), IMAGE) == [IMAGE]
        assert framer.spoilt == 1


@pytest.mark.parametrize("framer", [FrameFramer(7, 3), LineFramer(max_bytes=64), JpegFramer(max_bytes=64)])
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_break_it_or_fill_its_memory(framer: Framer, pieces: list[bytes]) -> None:
    fed(framer, *pieces)

    assert len(framer._buffer) <= 64
