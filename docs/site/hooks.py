"""mkdocs hooks: pages that are files outside of docs/, and the list of error messages."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from messages import message_list  # noqa: E402  (mkdocs runs this file without a package)

NOTEBOOKS = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("notebooks/*.ipynb"))]
OUTSIDE = ["CONTRIBUTING.md", "CHANGELOG.md", *NOTEBOOKS]
MESSAGES = "<!-- every message, by area -->"


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config: Any) -> Files:
    for name in OUTSIDE:
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between docs/ and the root, which is one folder here; and the messages of errors.md."""
    name = page.file.src_uri
    if name in OUTSIDE:
        return markdown.replace("](docs/", "](")
    if name == "errors.md":
        markdown = markdown.replace(MESSAGES, message_list(ROOT / "btcchat"))
    return re.sub(r"\]\(\.\./((?:\.\./)*(?:CONTRIBUTING\.md|CHANGELOG\.md|notebooks/))", r"](\1", markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Links from notebooks to docs/, which mkdocs-jupyter leaves as they are."""
    if page.file.src_uri in NOTEBOOKS:
        html = re.sub(r'href="\.\./docs/([\w/]+)\.md', r'href="../../\1/', html)
    return html
