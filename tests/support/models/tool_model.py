"""SmolLM2 with a chat template of the form of Qwen's, which writes tools, calls and their results."""

import subprocess
import sys
from pathlib import Path

from tests.support.models.smollm2 import gguf

TEMPLATE = Path(__file__).with_name("tools.jinja")


def tool_gguf(directory: Path) -> Path:
    """Write the file into *directory*, and return it: gguf's own program copies SmolLM2 with another template."""
    path = directory / "tools.gguf"
    argv = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force", "--chat-template", TEMPLATE.read_text()]
    subprocess.run([*argv, str(gguf()), str(path)], check=True, capture_output=True)
    return path
