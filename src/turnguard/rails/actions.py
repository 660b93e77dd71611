"""Read by NeMo Guardrails, which registers the actions that it finds here for the flows beside this file."""

from turnguard.nemo.actions import *  # noqa: F403
