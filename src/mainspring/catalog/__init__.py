"""What exists: definition versions, training sets, model versions, rollouts, routes, incidents, decisions.

A projection of the log's decision events in a database; one module a noun.
"""

from mainspring.catalog.catalog import Catalog
from mainspring.catalog.datasets import Dataset
from mainspring.catalog.decisions import Decision
from mainspring.catalog.definitions import Definition
from mainspring.catalog.incidents import BadWindow, Incident
from mainspring.catalog.plan import Cost, Line, Plan, plan
from mainspring.catalog.rollouts import Rollout
from mainspring.catalog.routing import Route
from mainspring.catalog.stacks import Stack
from mainspring.catalog.versions import Version

__all__ = [
    "BadWindow",
    "Catalog",
    "Cost",
    "Dataset",
    "Decision",
    "Definition",
    "Incident",
    "Line",
    "Plan",
    "Rollout",
    "Route",
    "Stack",
    "Version",
    "plan",
]
