"""The demo: a year of real flights through a whole Mainspring (``mainspring demo``)."""

__all__: list[str] = []
