"""Every model that one conversion makes, each once, and which of them a profile gets.

The plain variants are made first, side by side as far as processors and memory allow. Where the preferred scheme would
do but for its accuracy, the repair ladder is climbed for it before a scheme that comes later is taken.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import psutil

from edgeferry.converter.latency import known_latency
from edgeferry.converter.objective import Objective
from edgeferry.converter.repair.ladder import Climb, Ladder
from edgeferry.converter.repair.plan import Step
from edgeferry.converter.request import ConversionRequest
from edgeferry.converter.schemes import Engine, Io, Variant
from edgeferry.converter.selection import Candidate, Choice, Unavailable, choose, keeps_accuracy
from edgeferry.converter.workshop import Made, Workshop
from edgeferry.device_profiles import DeviceProfile, Scheme

__all__ = ["Stock", "makers"]

_CHILD_BYTES = 400 << 20  # Python, numpy, the quantizer and the runtime
_COPIES = 6  # of the float model, that the quantizer and the runtime hold at once


class Stock:
    """The models of one request.

    Args:
        request: What is asked for.
        workshop: Where models are made.

    Attributes:
        float_model: What they are made of.
    """

    def __init__(self, request: ConversionRequest, workshop: Workshop, float_model: Made) -> None:
        self._request = request
        self._workshop = workshop
        self.float_model = float_model
        self._made: dict[Variant, Made | Unavailable] = {}
        self._ladder = Ladder(workshop, float_model, self._keeps)
        self._climbs: dict[tuple[Variant, bool], Climb] = {}

    def make_plain(self) -> None:
        """Make every variant that a profile of the request wants."""
        profiles = self._request.profiles
        wanted = sorted({variant for profile in profiles for variant in self._request.variants(profile).values()})
        with ThreadPoolExecutor(makers(len(wanted), self.float_model.candidate.size_bytes)) as pool:
            made = pool.map(partial(self._workshop.make, float_model=self.float_model), wanted)
            self._made = dict(zip(wanted, made, strict=True))

    def choice_for(self, profile: DeviceProfile) -> Choice:
        """Return what ``profile`` gets."""
        variants = self._request.variants(profile)
        offered = {scheme: self._made[variant] for scheme, variant in variants.items()}
        choice = self._choose(profile, offered)
        steps: dict[Scheme, tuple[Step, ...]] = {}
        for scheme in choice.losing(self._request.objective) if self._can_repair else ():
            climbed = self._climb(variants[scheme], may_mix=Scheme.FLOAT32 in profile.schemes)
            if climbed.steps:
                steps[scheme] = climbed.steps
            if climbed.made is not None:
                offered[scheme] = climbed.made
                choice = self._choose(profile, offered)
            is_chosen = climbed.made is not None and choice.chosen is climbed.made.candidate
            if is_chosen and self._request.objective is Objective.ORDER:
                break
        return replace(choice, steps=steps)

    def of(self, candidate: Candidate) -> Made:
        """Return the model behind ``candidate``."""
        return next(made for made in self._all() if made.candidate is candidate)

    def plain(self, profile: DeviceProfile, scheme: Scheme) -> Made | Unavailable:
        """Return what ``scheme`` was before it was repaired for ``profile``."""
        return self._made[self._request.variants(profile)[scheme]]

    @property
    def _can_repair(self) -> bool:
        return self._request.repairs and self._request.engine is Engine.LITERT  # what the ladder makes models with

    def _all(self) -> Iterable[Made]:
        yield from (made for made in self._made.values() if isinstance(made, Made))
        yield from (climbed.made for climbed in self._climbs.values() if climbed.made is not None)

    def _choose(self, profile: DeviceProfile, offered: dict[Scheme, Made | Unavailable]) -> Choice:
        candidates = {scheme: one if isinstance(one, Unavailable) else one.candidate for scheme, one in offered.items()}
        wanted = self._request.wanted(profile)
        request = self._request
        latencies = {
            scheme: known_latency(request.name, one.scheme, one.latency_ms, profile, request.measurements)
            for scheme, one in candidates.items()
            if isinstance(one, Candidate)
        }
        return choose(profile, wanted, candidates, request.max_drop, objective=request.objective, latencies=latencies)

    def _climb(self, variant: Variant, *, may_mix: bool) -> Climb:
        plain = self._made[variant]
        if (variant, may_mix) not in self._climbs and isinstance(plain, Made):
            self._climbs[variant, may_mix] = self._ladder.climb(
                plain, may_mix=may_mix, may_train=self._request.trains and _is_trainable(variant)
            )
        return self._climbs[variant, may_mix]

    def _keeps(self, candidate: Candidate) -> bool:
        return keeps_accuracy(candidate, self._request.max_drop)


def _is_trainable(variant: Variant) -> bool:
    """Return whether training makes such models: integers at their borders, a scale for each channel."""
    return variant.io is Io.OWN and variant.is_per_channel


def makers(jobs: int, model_bytes: int) -> int:
    """Return how many models may be made at once: not more than there are processors, and memory for.

    Args:
        jobs: How many there are to make.
        model_bytes: Size of the float model.
    """
    affordable = psutil.virtual_memory().available // 2 // (_CHILD_BYTES + _COPIES * model_bytes)
    return max(1, min(jobs, len(os.sched_getaffinity(0)), affordable))
