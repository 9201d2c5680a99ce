"""What each kind of device can run: hardware, runtime, schemes and budgets, as YAML files with their sources.

Every figure about hardware in edgeferry stands in the YAML files beside this module. `docs/profiles.md` tells the
schema key by key.
"""

from edgeferry.device_profiles.catalog import load_profile, profile_names
from edgeferry.device_profiles.profile import (
    Arch,
    Budgets,
    Delegate,
    DeviceProfile,
    Hardware,
    PublishedLatency,
    Runtime,
    RuntimePackage,
    Scheme,
    Serving,
    Source,
    Swap,
    Trial,
    WeightGranularity,
)
from edgeferry.device_profiles.yaml_tree import ProfileError

__all__ = [
    "Arch",
    "Budgets",
    "Delegate",
    "DeviceProfile",
    "Hardware",
    "ProfileError",
    "PublishedLatency",
    "Runtime",
    "RuntimePackage",
    "Scheme",
    "Serving",
    "Source",
    "Swap",
    "Trial",
    "WeightGranularity",
    "load_profile",
    "profile_names",
]
