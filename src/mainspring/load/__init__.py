"""Simulated traffic: requests that come when they come, whatever the server does, and what their answers tell of it."""

from mainspring.load.capacity import Capacity, Limit, Replicas, plan, search
from mainspring.load.measure import Level, levels
from mainspring.load.pool import Pool, pool
from mainspring.load.sender import Job, Sent, send
from mainspring.load.shape import Stage, arrivals, ramp, spike, steady

__all__ = [
    "Capacity",
    "Job",
    "Level",
    "Limit",
    "Pool",
    "Replicas",
    "Sent",
    "Stage",
    "arrivals",
    "levels",
    "plan",
    "pool",
    "ramp",
    "search",
    "send",
    "spike",
    "steady",
]
