"""Sphinx configuration; `make docs` runs docs/build.py, which runs Sphinx."""

project = "promptgym"
author = "The promptgym developers"
copyright = "2026, the promptgym developers"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "promptgym"
html_show_sphinx = False
exclude_patterns = ["README.md"]
