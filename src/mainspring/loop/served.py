"""The model as a release was trained by it: its features and views, when the definitions file has moved on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mainspring.catalog import Catalog
from mainspring.definitions import Feature, ModelDef, ViewDef, expression_from, source_from, view_from


def served_model(model: ModelDef, version: str, catalog: Catalog) -> ModelDef | None:
    """The definition by which ``version`` of a model answers; None when the catalog does not know it.

    Args:
        model: As the definitions file says now: returned as it is when the release's features are the same.
        version: Of the model.
        catalog: Caught up.
    """
    known = {v.version: v for v in catalog.versions(model.name)}.get(version)
    found = catalog.definition("models", model.name, known.definition or "") if known is not None else None
    if known is None or found is None:
        return None
    described = found.description
    if all(described.get(part) == model.describe().get(part) for part in ("features", "using", "request")):
        return model
    views = {}
    for name, view_version in known.views.items():
        definition = catalog.definition("views", name, view_version)
        if definition is None:
            return None
        views[name] = view_from(definition.description)
    request = source_from(described["request"])
    read = tuple(views[name] for name, _ in described.get("using", ()))
    schema = {**request.schema}
    if views:
        from mainspring.features.request import column_types

        schema = column_types(request.schema, views.values())
    features = tuple(_feature(one, views, schema) for one in described["features"])
    return replace(model, request=request, features=features, using=read)


def _feature(described: Mapping[str, Any], views: Mapping[str, ViewDef], schema: Mapping[str, Any]) -> Feature:
    name, kind = described["name"], described["kind"]
    if "view" in described:
        view = views[described["view"]]
        aggregate = next(f for f in view.features if name in view.columns_of(f))
        return Feature(name, kind, view=view, aggregate=aggregate)
    return Feature(name, kind, expression=expression_from(described.get("expression"), schema, name))
