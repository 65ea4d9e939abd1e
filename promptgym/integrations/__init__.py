"""Adapters to other libraries; each module imports its library, so import them by name."""
