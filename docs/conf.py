"""How the documentation is built: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "attar"
author = "attar's authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "method_pages", "api_pages", "board_page"]
exclude_patterns = ["_build", "demo.svg"]
myst_enable_extensions = ["colon_fence", "fieldlist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 100
autodoc_default_options = {"members": True, "undoc-members": False}
html_theme = "furo"
html_title = "attar"
html_static_path: list[str] = []
highlight_language = "none"
