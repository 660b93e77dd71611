"""Tests of the NeMo Guardrails wing."""
