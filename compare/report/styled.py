"""What all of it prints with: rich's console and text, or plain ones where rich is missing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
else:
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        from compare.report.plain import Console, Text

__all__ = ["Console", "Text"]
