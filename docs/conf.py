"""Configuration of Sphinx, which builds the documentation from the Markdown pages and the docstrings.

    pip install . --group docs && sphinx-build -W --keep-going -n docs build/site

Neither the build nor the finished pages load anything from the network.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

# Compiled classes have no signatures to show, but the readable twins of the accelerator have them.
os.environ["WEBSOCKETS_ACCELERATOR"] = "python"
# The pages show the defaults of the library, not those of the machine that builds them.
os.environ |= {"WEBSOCKETS_USER_AGENT": "Python/3.x websockets", "WEBSOCKETS_SERVER": "Python/3.x websockets"}
# Importing the legacy API, or a module by its earlier name, warns.
warnings.filterwarnings("ignore", r"websockets\.\w+.*(deprecated|renamed)", DeprecationWarning)
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from websockets.legacy.client import Connect  # noqa: E402
from websockets.legacy.server import Serve  # noqa: E402
from websockets.version import version as release  # noqa: E402

# Programs use these names.
Connect.__name__, Serve.__name__ = "connect", "serve"

project = "websockets"
author = "The websockets contributors"
version = release

extensions = [
    "myst_parser",
    "docstrings",
    "since",
    "names",
    "outside",
    "diagrams",
    "captions",
    "searching",
    "sphinx_copybutton",
]

# Markdown. Headings get the same anchors as in other viewers of Markdown.
myst_heading_anchors = 4

# Docstrings.
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# Names of other packages and of the standard library, whose inventory the build doesn't load.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(asyncio|collections|concurrent|contextlib|http|logging|os|re|socket|ssl|ssl_module|time|tls|types|unittest|"
        r"uuid|werkzeug|zlib)\.[\w.]+|"
        r"(Abstract|Async|Await|Callable|Contextmanager|Generator|HTTPStatus|Iter|Literal|Map|Mutable|Self|Seq)\w*|"
        r"(websockets\.testing\._link\.)?MemorySocket|"
        r"(Any|Config|Executor|ModuleType|ServerState|_[PT]|Pattern|Protocol|SSLContext|TracebackType)",
    ),
]

# Appearance.
html_theme = "furo"
html_title = f"websockets {release}"
html_copy_source = False
html_show_copyright = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
