"""The closed loop: durable pipelines, the controller that moves releases, the worker that runs them, the supervisor.

Import from its modules: each command needs another of them, and some are heavy.
"""

__all__: list[str] = []
