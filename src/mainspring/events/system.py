"""The sources of the system's own events. Their names start with ``_``, which no user's name can.

They pass through the same door, log, lake and history as every other event.
"""

from __future__ import annotations

from mainspring.definitions.values import Field, SourceDef

OTHERWISE = "otherwise"
"""The version of an answer that no model gave: the value that its definition declares."""

EXPRESSION = "expression"
"""The error of a prediction whose model has an expression that cannot be computed for the request."""

PREDICTION = SourceDef(
    "_prediction",
    (
        Field("prediction_id", "str"),
        Field("predicted_at", "datetime"),
        Field("model", "str"),
        Field("version", "str"),
        Field("variant", "str"),
        Field("probability", "float"),
        Field("unit", "str"),
        Field("request_id", "str", nullable=True),
        Field("folded", "int"),
        Field("output", "float", nullable=True),
        Field("other_version", "str", nullable=True),
        Field("other_output", "float", nullable=True),
        Field("features", "str"),
        Field("status", "str"),
        Field("latency_us", "int"),
        Field("fallback", "str", nullable=True),
        Field("error", "str", nullable=True),
        Field("rollout", "str", nullable=True),
        Field("other_latency_us", "int", nullable=True),
        Field("other_error", "str", nullable=True),
        Field("drawn", "str", nullable=True),
        Field("answered", "float", nullable=True),
        Field("rules", "str", nullable=True),
        Field("member", "str", nullable=True),
        Field("members", "str", nullable=True),
        Field("spread", "float", nullable=True),
        Field("part_of", "str", nullable=True),
        Field("selected", "bool", nullable=True),
        Field("cached", "str", nullable=True),
    ),
    time="predicted_at",
    id="prediction_id",
    doc="""One answered prediction.

    version: of the model that answered, or OTHERWISE where the declared value did. variant: champion, challenger or
    fallback. probability: of that assignment. unit: the label's key as text. folded: k, the log offset folded into the
    state that was read. other_*: the other model of a pair in shadow or ramp. features: JSON array of the served values
    in the model's order. status: JSON array of per-feature status codes, empty when all are present. drawn: what was
    assigned, where a fallback answered. answered: what output rules made of the output, where they acted; rules: which.
    Of a composite's answer: member: of a cascade, who answered; members: JSON array of [name, version, variant, answer]
    of each that was asked, in order; spread: of an ensemble's answers; output: what these make. Of a member's
    own: part_of: the composite's prediction; selected: whether it was asked only because an earlier member was not
    sure. cached: the prediction whose answer was given again; features and folded are that one's.
    """,
)

DECISION = SourceDef(
    "_decision",
    (
        Field("decision_id", "str"),
        Field("decided_at", "datetime"),
        Field("kind", "str"),
        Field("model", "str", nullable=True),
        Field("subject", "str", nullable=True),
        Field("actor", "str"),
        Field("reason", "str"),
        Field("numbers", "str"),
    ),
    time="decided_at",
    id="decision_id",
    doc="One decision, by the system or by a person, with its numbers as a JSON object.",
)

SYSTEM_SOURCES: dict[str, SourceDef] = {s.name: s for s in (PREDICTION, DECISION)}


def all_sources(sources: dict[str, SourceDef]) -> dict[str, SourceDef]:
    """A project's sources and the system's own, by name."""
    return {**sources, **SYSTEM_SOURCES}
