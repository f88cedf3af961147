"""Control characters that a terminal obeys."""

CLIPBOARD = "\x1b]52;c;Y3VybCB4fHNo\x07\x1b[1A\x1b[2K"
"""Writes the clipboard, and wipes the line above."""
OBEYED = {*map(chr, [*range(9), *range(11, 32), *range(127, 160)]), *"\u061c\u200e\u200f\u2028\u2029"}
OBEYED |= {*map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)])}
"""Every character that moves the cursor, ends a line or changes the direction of text."""
