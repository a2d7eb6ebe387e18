"""What our command lines have in common."""

import argparse
from typing import Any


class Parser(argparse.ArgumentParser):
    """A parser that raises OSError where its help cannot be written; that of argparse says nothing."""

    def print_help(self, file: Any = None) -> None:
        """Prints the help at once."""
        print(self.format_help(), end="", file=file, flush=True)
