"""DeviceProfile: what a kind of device can run.

These dataclasses are the schema: a YAML file has exactly these keys, and `reader` checks names, types and ranges
against them. A field without a default is required.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

__all__ = [
    "Arch",
    "Budgets",
    "Delegate",
    "DeviceProfile",
    "Form",
    "Hardware",
    "PublishedLatency",
    "Range",
    "Runtime",
    "RuntimePackage",
    "Scheme",
    "Serving",
    "SizeRange",
    "Source",
    "Swap",
    "Thermal",
    "Trial",
    "WeightGranularity",
]


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number; both are allowed."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class SizeRange(Range):
    """Bounds of a number of bytes, which a file may also spell as ``512 MiB``."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a text must look like: a regular expression, and the same in words."""

    pattern: str
    wanted: str


Bytes = Annotated[int, SizeRange(1, 1 << 44)]
Cores = Annotated[int, Range(1, 1024)]
Megahertz = Annotated[int, Range(1, 20_000)]
Seconds = Annotated[int, Range(1, 86_400)]
Celsius = Annotated[float, Range(0, 120)]
Share = Annotated[float, Range(0, 1)]
Milliseconds = Annotated[float, Range(0, 3_600_000)]
PythonVersion = Annotated[str, Form(r"3\.[0-9]{1,2}", "a version of Python such as 3.11")]


class Scheme(StrEnum):
    """How the numbers of a model are stored and computed."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC_INT8 = "dynamic_int8"
    INT8 = "int8"
    INT16X8 = "int16x8"
    MIXED = "mixed"


class WeightGranularity(StrEnum):
    """Whether int8 weights have one scale for each output channel or one for the whole tensor."""

    PER_CHANNEL = "per_channel"
    PER_TENSOR = "per_tensor"


class Swap(StrEnum):
    """How one version follows another: both in memory until the new one answers, or the old one stopped first."""

    BOTH = "both"
    STOP_FIRST = "stop_first"


class Arch(StrEnum):
    """Instruction set of the user space, as ``uname -m`` names it (an armv7l program also runs on a 64-bit kernel)."""

    AARCH64 = "aarch64"
    ARMV7L = "armv7l"
    X86_64 = "x86_64"


class RuntimePackage(StrEnum):
    """Python package that runs the models."""

    AI_EDGE_LITERT = "ai-edge-litert"
    TFLITE_RUNTIME = "tflite-runtime"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure comes from: a document with its address, or the reason for a default of edgeferry's own."""

    name: str = ""
    url: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine.

    Attributes:
        soc: System on a chip, where there is a particular one.
        cpu: Name of the processor's cores.
        cores: Of the processor.
        memory_bytes: Of the variant with the least memory that is sold.
        cpu_mhz: Clock that the maker states.
        accelerator: What else can compute, where there is something.
    """

    arch: Arch
    cores: Cores
    memory_bytes: Bytes
    cpu: str = ""
    soc: str = ""
    cpu_mhz: Megahertz | None = None
    accelerator: str = ""


@dataclass(frozen=True, slots=True)
class Delegate:
    """A library that computes a model's operations on other hardware; used where it is installed.

    Attributes:
        name: What it is called.
        library: File name of the shared library.
        note: What it needs.
    """

    name: str
    library: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs the models.

    Attributes:
        version: Versions of the package, as pip spells a range.
        python: Versions of Python for which the package and edgeferry have wheels.
        threads: Threads of the interpreter for one model.
        delegates: Optional ones.
        note: What the owner of such a device has to know.
    """

    package: RuntimePackage
    version: str
    python: tuple[PythonVersion, ...]
    threads: Cores
    delegates: tuple[Delegate, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a model may cost.

    Attributes:
        model_bytes: Size of the ``.tflite`` file.
        memory_bytes: Peak memory of loading and running it.
        latency_ms: Median time of one inference; None for no budget.
    """

    model_bytes: Bytes
    memory_bytes: Bytes
    latency_ms: Milliseconds | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """Limits of the serving process, and how it changes versions."""

    threads: Cores
    memory_limit_bytes: Bytes
    swap: Swap


@dataclass(frozen=True, slots=True)
class Trial:
    """Limits of the process in which a candidate proves itself."""

    timeout_s: Seconds
    memory_limit_bytes: Bytes


@dataclass(frozen=True, slots=True)
class Thermal:
    """When models run less, so that the board cools down before its firmware slows everything.

    Attributes:
        slow_above_c: At this temperature of the processor and above, models run less with every reading.
        full_below_c: At this one and below, they run more again.
        least_share: Of the time, that is never taken from them.
    """

    slow_above_c: Celsius
    full_below_c: Celsius
    least_share: Share = 0.25


@dataclass(frozen=True, slots=True)
class PublishedLatency:
    """A latency that somebody else measured on such a device.

    Attributes:
        model: What was run, with its input size.
        latency_ms: Of one inference.
        source: Who says so.
    """

    model: str
    scheme: Scheme
    threads: Cores
    latency_ms: Milliseconds
    source: Source


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """What a kind of device can run.

    Attributes:
        name: Of the file, without its suffix.
        title: For people.
        schemes: Those the runtime has kernels for, the preferred one first.
        weights: How int8 weights are scaled.
        allow_select_tf_ops: Whether a model may need TensorFlow's own operations beside TFLite's.
        watch_s: How long a new version is watched before it counts as good.
        thermal: What is done against heat; None leaves that to the firmware.
        latencies: Published ones.
        sources: Where each figure comes from, by its key: ``hardware.cores``.
    """

    name: str
    title: str
    hardware: Hardware
    runtime: Runtime
    schemes: tuple[Scheme, ...]
    budgets: Budgets
    serving: Serving
    trial: Trial
    watch_s: Seconds
    weights: WeightGranularity = WeightGranularity.PER_CHANNEL
    allow_select_tf_ops: bool = False
    thermal: Thermal | None = None
    latencies: tuple[PublishedLatency, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
