"""The consents that a refusal prints."""

import re

WIPE = re.compile(r'write under hosts\.([\w-]+)\.wipe: \{(\S+): "([^"]*)"\}')
"""The line that a refusal asks to paste: host, serial, content."""
OPTION = re.compile(r"hosts\.([\w-]+)\.drives \S+: [^\n]*--consent '?([^\s=]+)=([^'`\n]*)")
"""The option that a refusal asks for where no later write would show: host, serial, content."""
