"""What a pipeline has to know of its model, as the serving process tells it."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from edgeferry.agent.serving_client import ServingClient, ServingError
from edgeferry.wire.messages import Code, Reason

__all__ = ["FactsError", "ModelFacts", "learn", "parse_config"]


class FactsError(Exception):
    """The model is not one for a pipeline; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model's one input, and what its answers mean.

    Attributes:
        version: That answers now.
        datatype: Of the input, as the Open Inference Protocol names it.
        shape: Of the input, the batch first.
        labels: Of the classes; empty where it has none.
        preprocessing: How raw data becomes the input, as its artifact says; empty where it says nothing.
    """

    version: str
    input_name: str
    datatype: str
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def is_fed_like(self, other: "ModelFacts") -> bool:
        """Tell whether both, but for their versions, take the same and mean the same."""
        return replace(self, version=other.version) == other


def learn(client: ServingClient, model: str, version: str) -> ModelFacts:
    """Return what the serving process says of a model.

    Raises:
        ServingError: Nobody answers, or the model is not loaded.
        FactsError: It is not one for a pipeline.
    """
    try:
        return parse_config(client.config(model, version))
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        detail = f"its configuration cannot be read: {err!r}"
        raise ServingError(Code.INTERNAL, Reason.SERVING_UNAVAILABLE, detail) from err


def parse_config(config: dict[str, Any]) -> ModelFacts:
    """Return the facts in a model configuration as `agent.serving.oip_response.model_config` writes it.

    Raises:
        FactsError: It has several inputs.
        KeyError: It is not such a configuration.
    """
    inputs = config["input"]
    if len(inputs) != 1:
        names = ", ".join(tensor["name"] for tensor in inputs)
        raise FactsError(f"{config['name']} has {len(inputs)} inputs ({names}); a pipeline feeds models with one")
    parameters = {name: json.loads(value["string_value"]) for name, value in config.get("parameters", {}).items()}
    return ModelFacts(
        version=str(config["version_policy"]["specific"]["versions"][0]),
        input_name=inputs[0]["name"],
        datatype=inputs[0]["data_type"].removeprefix("TYPE_"),
        shape=tuple(abs(size) for size in inputs[0]["dims"]),
        labels=tuple(parameters.get("labels", ())),
        preprocessing=parameters.get("preprocessing", {}),
    )
