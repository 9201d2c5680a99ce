"""How a profile is found, what `extends` takes over, and which sources it keeps."""

from pathlib import Path

import pytest

from edgeferry.device_profiles import Arch, ProfileError, Source, load_profile

from .conftest import WHOLE, Load
from .test_reading import refusal

SOURCED = """\
  sources:
    - figures: [cores]
      name: A datasheet
      url: https://example.com/datasheet
"""


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ProfileError) as raised:
        load_profile("rasberry-pi-4")

    assert str(raised.value) == (
        "profile 'rasberry-pi-4' is neither known nor the path of a YAML file; did you mean \"raspberry-pi-4\"?"
    )


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(ProfileError, match=r"nor the path of a YAML file; wanted one of coral-dev-board, "):
        load_profile("toaster")


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ProfileError, match=r"^/nowhere/board.yaml: cannot be read: No such file or directory"):
        load_profile("/nowhere/board.yaml")


def test_a_folder_is_not_a_profile(tmp_path: Path) -> None:
    (tmp_path / "board.yaml").mkdir()

    with pytest.raises(ProfileError, match="cannot be read: Is a directory"):
        load_profile(str(tmp_path / "board.yaml"))


def test_a_file_is_named_so_that_its_name_can_stand_in_a_path(load: Load) -> None:
    with pytest.raises(ProfileError, match="a profile is named as its file"):
        load(name="my board.yaml")


def test_a_file_beside_the_working_directory_is_found(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    monkeypatch.chdir(tmp_path)

    assert load_profile("board.yaml").title == "A board"


class TestExtends:
    def test_what_is_not_said_is_taken_over(self, load: Load) -> None:
        base = load_profile("raspberry-pi-4")

        mine = load("title: Mine\nextends: raspberry-pi-4\nhardware: {memory_bytes: 8 GiB}\nwatch_s: 5\n")

        assert mine.name == "board"
        assert mine.hardware.memory_bytes == 8 << 30
        assert mine.hardware.cpu == base.hardware.cpu
        assert mine.watch_s == 5
        assert mine.schemes == base.schemes

    def test_a_profile_that_extends_another_can_be_extended(self, load: Load) -> None:
        mine = load("title: Mine\nextends: raspberry-pi-32bit\n")

        assert mine.hardware.arch is Arch.ARMV7L
        assert mine.serving == load_profile("raspberry-pi-zero-2w").serving

    def test_only_own_profiles_can_be_extended(self, load: Load) -> None:
        said = refusal(load, "title: Mine\nextends: raspbery-pi-4\n")

        assert said == "board.yaml:2: extends: found 'raspbery-pi-4'; did you mean \"raspberry-pi-4\"?"

    def test_a_profile_cannot_extend_its_own_name(self, load: Load) -> None:
        with pytest.raises(ProfileError, match="extends: found 'orange-pi-5'"):
            load("extends: orange-pi-5\n", name="orange-pi-5.yaml")

    def test_a_section_that_is_not_one_is_refused(self, load: Load) -> None:
        said = refusal(load, "title: Mine\nextends: raspberry-pi-4\nhardware: big\n")

        assert said == "board.yaml:3: hardware: found 'big', wanted keys and values"

    def test_a_figure_that_is_replaced_loses_its_source(self, load: Load) -> None:
        mine = load("title: Mine\nextends: raspberry-pi-4\nhardware: {memory_bytes: 8 GiB}\nschemes: [int8]\n")

        assert "hardware.memory_bytes" not in mine.sources
        assert "schemes" not in mine.sources
        assert mine.sources["hardware.cores"] == load_profile("raspberry-pi-4").sources["hardware.cores"]


class TestSources:
    def test_a_source_belongs_to_the_figures_that_it_names(self, load: Load) -> None:
        profile = load(WHOLE.replace("  memory_bytes: 1 GiB\n", "  memory_bytes: 1 GiB\n" + SOURCED))

        assert profile.sources == {"hardware.cores": Source("A datasheet", "https://example.com/datasheet")}

    def test_a_figure_at_the_top_has_its_source_there(self, load: Load) -> None:
        profile = load(WHOLE + "sources:\n  - figures: [watch_s]\n    reason: chosen\n")

        assert profile.sources == {"watch_s": Source(reason="chosen")}

    @pytest.mark.parametrize(
        ("sources", "said"),
        [
            ("{}", "board.yaml:23: sources: wanted a list of entries"),
            ("[{name: A, url: 'https://a'}]", "board.yaml:23: sources[0].figures is missing"),
            ("[{figures: [watch_s], page: 3}]", "board.yaml:23: sources[0].page is not a known key"),
            (
                "[{figures: [watch_m], reason: x}]",
                "board.yaml:23: sources: watch_m does not stand in this section; d",
            ),
            ("[{figures: [watch_s, watch_s], reason: x}]", "board.yaml:23: sources: watch_s has two sources"),
            ("[{figures: [watch_s]}]", "board.yaml:23: sources[0]: wanted a name and a url"),
            ("[{figures: [watch_s], name: A}]", "board.yaml:23: sources[0]: wanted a name and a url"),
            ("[{figures: [watch_s], name: A, url: a}]", "board.yaml:23: sources[0]: wanted a name and a url"),
            ("[{figures: [watch_s], url: 'https://a'}]", "board.yaml:23: sources[0]: wanted a name and a url"),
            ("[{figures: [watch_s], name: A, reason: x}]", "board.yaml:23: sources[0]: wanted a name and a url"),
            (
                "[{figures: [watch_s], name: A, url: 'https://a', reason: x}]",
                "board.yaml:23: sources[0]: wanted a name",
            ),
        ],
    )
    def test_a_wrong_source_is_refused(self, load: Load, sources: str, said: str) -> None:
        assert refusal(load, WHOLE + f"sources: {sources}\n").startswith(said)

    @pytest.mark.parametrize(
        ("thermal", "said"),
        [
            ("{slow_above_c: 60, full_below_c: 60}", "thermal.full_below_c: found 60, wanted less than thermal.slow"),
            ("{slow_above_c: 60, full_below_c: 50, least_share: 0}", "thermal.least_share: found 0, wanted 0.05 to 1"),
            ("{slow_above_c: 60}", "thermal.full_below_c is missing"),
        ],
    )
    def test_a_thermal_policy_that_cannot_work_is_refused(self, load: Load, thermal: str, said: str) -> None:
        assert refusal(load, WHOLE + f"thermal: {thermal}\n").startswith(f"board.yaml:23: {said}")

    def test_a_latency_has_a_source_of_its_own(self, load: Load) -> None:
        latency = "  - {model: MobileNet, scheme: int8, threads: 4, latency_ms: 40, source: {name: A}}\n"

        said = refusal(load, WHOLE + "latencies:\n" + latency)

        assert said.startswith("board.yaml:24: latencies[0].source: wanted a name and a url")
