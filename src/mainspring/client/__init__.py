"""What other programs send events and ask for predictions with: ``mainspring.Client`` and ``AsyncClient``."""

from mainspring.client.asynchronous import AsyncClient
from mainspring.client.client import Client
from mainspring.client.outcomes import Delivery, Outcome, Prediction, Totals

__all__ = ["AsyncClient", "Client", "Delivery", "Outcome", "Prediction", "Totals"]
