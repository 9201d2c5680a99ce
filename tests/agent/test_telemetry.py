"""How the machine is doing: this real one, with sensors that are there and sensors that are not."""

from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from edgeferry.agent.telemetry import MachineSensors, ServingFigures, hardware
from edgeferry.wire.codec import WireError, encode
from edgeferry.wire.messages import Telemetry

FIGURES = {"total": 10, "errors_total": 1, "rps": 0.5, "p50_ms": 3.0, "p95_ms": 4.0}
STATS: dict[str, Any] = {
    "rss_bytes": 1000,
    "queue_depth": 2,
    "share": 0.5,
    "models": {"cats": {"1": FIGURES, "2": FIGURES | {"total": 5, "rps": 1.25}}, "dogs": {"4": FIGURES}},
}


def read(folder: Path, serving: ServingFigures | None = None) -> Telemetry:
    return MachineSensors(folder, root=folder).read(boot="cafe", interval_s=10.0, serving=serving)


def sensor(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text(text)


class TestMachine:
    def test_what_every_machine_has_is_told(self, tmp_path: Path) -> None:
        telemetry = read(tmp_path)

        for name in (
            "uptime_s",
            "load1",
            "mem_pct",
            "mem_used_bytes",
            "agent_rss_bytes",
            "disk_pct",
            "disk_free_bytes",
        ):
            assert getattr(telemetry, name) is not None, name
        assert telemetry.interval_s == 10.0
        assert telemetry.boot == "cafe"

    def test_readings_are_numbered(self, tmp_path: Path) -> None:
        sensors = MachineSensors(tmp_path)

        numbers = [sensors.read(boot="cafe", interval_s=1.0, serving=None).seq for _ in range(3)]

        assert numbers == [1, 2, 3]

    def test_a_sensor_that_is_absent_is_left_out(self, tmp_path: Path) -> None:
        said = msgspec.json.decode(encode(read(tmp_path)))

        assert (
            not {
                "cpu_temp_c",
                "throttled",
                "undervoltage",
                "wifi_dbm",
                "storage_used_pct",
                "serving_rss_bytes",
                "infer_total",
                "models",
            }
            & said.keys()
        )
        assert None not in said.values()

    def test_a_machine_that_tells_nothing_of_itself_ends_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "nothing"))

        telemetry = read(tmp_path)

        assert (telemetry.uptime_s, telemetry.cpu_pct, telemetry.mem_pct, telemetry.agent_rss_bytes) == (None,) * 4
        assert telemetry.disk_pct is not None

    @pytest.mark.parametrize(
        "error", [OSError("input/output error"), RuntimeError("no such file"), psutil.AccessDenied(), ValueError("x")]
    )
    @pytest.mark.parametrize(
        ("sensor", "fields"),
        [
            ("virtual_memory", {"mem_pct", "mem_used_bytes", "mem_avail_bytes"}),
            ("disk_usage", {"disk_pct", "disk_free_bytes"}),
            ("net_io_counters", {"net_rx_bytes", "net_tx_bytes"}),
            ("boot_time", {"uptime_s"}),
            ("cpu_percent", {"cpu_pct"}),
            ("cpu_freq", {"cpu_mhz"}),
            ("Process", {"agent_rss_bytes"}),
        ],
    )
    def test_a_sensor_that_fails_is_left_out_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sensor: str, fields: set[str], error: Exception
    ) -> None:
        whole = msgspec.json.decode(encode(read(tmp_path)))

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(psutil, sensor, fail)

        said = msgspec.json.decode(encode(read(tmp_path)))
        assert whole.keys() - said.keys() == fields & whole.keys()

    def test_a_state_directory_that_is_gone_ends_nothing(self, tmp_path: Path) -> None:
        assert MachineSensors(tmp_path / "gone").read(boot="cafe", interval_s=1.0, serving=None).disk_pct is None

    @pytest.mark.parametrize(
        ("text", "temp_c"), [("58200\n", 58.2), ("-5000\n", -5.0), ("broken\n", None), ("\u00b2", None)]
    )
    def test_the_temperature_is_told_in_degrees(self, tmp_path: Path, text: str, temp_c: float | None) -> None:
        sensor(tmp_path, "sys/class/thermal/thermal_zone0/temp", text)

        assert read(tmp_path).cpu_temp_c == temp_c

    @pytest.mark.parametrize(
        ("bits", "throttled", "undervoltage"),
        [
            ("0\n", False, False),
            ("1\n", False, True),
            ("4\n", True, False),
            ("50005\n", True, True),
            ("50000\n", False, False),
            ("?\n", None, None),
        ],
    )
    def test_a_pi_tells_whether_it_is_throttled_or_short_of_voltage_right_now(
        self, tmp_path: Path, bits: str, throttled: bool | None, undervoltage: bool | None
    ) -> None:
        sensor(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", bits)

        telemetry = read(tmp_path)

        assert (telemetry.throttled, telemetry.undervoltage) == (throttled, undervoltage)

    @pytest.mark.parametrize(
        ("rows", "dbm"),
        [
            (" wlan0: 0000   54.  -56.  -256        0      0      0      0    912        0\n", -56.0),
            (" wlan0: 0000   54.  -71.  -256        0\n wlan1: 0000   54.  -40.  -256        0\n", -40.0),
            (" wlan0: 0000    0.    0.     0        0\n", None),
            (" wlan0:\n", None),
            ("", None),
        ],
    )
    def test_the_signal_of_the_best_wireless_interface_is_told(
        self, tmp_path: Path, rows: str, dbm: float | None
    ) -> None:
        headings = (
            "Inter-| sta-|   Quality        |   Discarded packets\n face | tus | link level noise |  nwid  crypt\n"
        )
        sensor(tmp_path, "proc/net/wireless", headings + rows)

        assert read(tmp_path).wifi_dbm == dbm

    @pytest.mark.parametrize(
        ("text", "used_pct"), [("0x01 0x03\n", 30.0), ("0x0b 0x0b\n", 110.0), ("0x00 0x00\n", None), ("?", None)]
    )
    def test_the_wear_of_a_card_is_told_where_its_maker_estimates_it(
        self, tmp_path: Path, text: str, used_pct: float | None
    ) -> None:
        sensor(tmp_path, "sys/block/mmcblk0/device/life_time", text)

        assert read(tmp_path).storage_used_pct == used_pct


class TestHardware:
    def test_every_machine_has_an_architecture_cores_and_memory(self, tmp_path: Path) -> None:
        assert set(hardware(root=tmp_path)) == {"arch", "cores", "memory_bytes"}

    def test_what_it_does_not_tell_is_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "nothing"))

        assert "memory_bytes" not in hardware(root=tmp_path)

    def test_a_board_says_its_model(self, tmp_path: Path) -> None:
        sensor(tmp_path, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")

        assert hardware(root=tmp_path)["model"] == "Raspberry Pi 4 Model B Rev 1.4"
        assert "revision" not in hardware(root=tmp_path)

    def test_a_board_says_its_revision_code(self, tmp_path: Path) -> None:
        path = tmp_path / "proc/device-tree/system/linux,revision"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes.fromhex("00a03115"))

        assert hardware(root=tmp_path)["revision"] == "a03115"


class TestServing:
    def test_totals_are_those_of_all_versions(self, tmp_path: Path) -> None:
        telemetry = read(tmp_path, ServingFigures(STATS, {}))

        assert (telemetry.infer_total, telemetry.infer_errors_total, telemetry.infer_rps) == (25, 3, 2.25)
        assert (telemetry.serving_rss_bytes, telemetry.queue_depth) == (1000, 2)

    def test_figures_of_a_model_are_those_of_its_stable_version(self, tmp_path: Path) -> None:
        telemetry = read(tmp_path, ServingFigures(STATS, {"cats": {"stable": 2}}))

        assert list(telemetry.models) == ["cats"]
        assert (telemetry.models["cats"].version, telemetry.models["cats"].total) == (2, 5)

    def test_figures_of_other_labels_stand_beside_them(self, tmp_path: Path) -> None:
        telemetry = read(tmp_path, ServingFigures(STATS, {"cats": {"stable": 1, "canary": 2, "previous": 9}}))

        assert telemetry.models["cats"].total == 10
        assert {label: one.total for label, one in telemetry.models["cats"].labels.items()} == {"canary": 5}

    def test_a_figure_that_is_not_there_is_left_out(self, tmp_path: Path) -> None:
        said = msgspec.json.decode(encode(read(tmp_path, ServingFigures(STATS, {"cats": {"stable": 1}}))))

        assert "p99_ms" not in said["models"]["cats"]

    def test_a_stable_version_without_figures_is_left_out(self) -> None:
        assert ServingFigures(STATS, {"cats": {"stable": 9}, "birds": {"stable": 1}}).models == {}

    @pytest.mark.parametrize(
        "stats",
        [
            {},
            STATS | {"rss_bytes": "many"},
            STATS | {"models": []},
            STATS | {"models": {"cats": {"1": {}}}},
            STATS | {"models": {"cats": None}},
        ],
    )
    def test_other_statistics_than_ours_are_refused(self, stats: dict[str, Any]) -> None:
        with pytest.raises(WireError, match="serving statistics"):
            ServingFigures(stats, {"cats": {"stable": 1}})
