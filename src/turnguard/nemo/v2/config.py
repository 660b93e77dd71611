"""Read by NeMo Guardrails from `import_paths: [turnguard/rails]`: it calls `init` with the app that it is building."""

from turnguard.nemo.load import init

__all__ = ["init"]
