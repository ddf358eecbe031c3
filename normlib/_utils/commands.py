"""What the commands ``normlib`` and ``normcourse`` share: verbs with examples, and errors that are said in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

Verb = Callable[[argparse.Namespace], "int | None"]


class Command:
    """A command with verbs.

    Args:
        name: Of the command, as it is typed.
        about: What it is for, one sentence.
    """

    def __init__(self, name: str, about: str):
        self._name = name
        self._parser = argparse.ArgumentParser(prog=name, description=about)
        self._verbs = self._parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def verb(self, name: str, function: Verb, about: str, examples: str) -> argparse.ArgumentParser:
        """Add a verb; its arguments are added to the parser that is returned."""
        form = argparse.RawDescriptionHelpFormatter
        parser = self._verbs.add_parser(name, help=about, description=about, epilog=examples, formatter_class=form)
        parser.set_defaults(verb=function)
        parser.add_argument("--traceback", action="store_true", help="show where an error came from")
        return parser

    def run(self, arguments: list[str] | None) -> int:
        """Carry out what the arguments ask for.

        Returns:
            The exit code: that of the verb, 2 for a command that cannot be carried out, 130 for one that was stopped.
        """
        options = self._parser.parse_args(arguments)
        try:
            code = options.verb(options) or 0
            sys.stdout.flush()  # an error of it belongs here, not to the end of Python
            return code
        except BrokenPipeError:  # whoever reads the output, such as head, has seen enough
            _give_up_output()
            return 2
        except KeyboardInterrupt as stop:
            print(f"\n{str(stop) or 'stopped; the same command goes on with what was saved'}", file=sys.stderr)
            return 130
        except (ValueError, OSError, ImportError, ArithmeticError, RuntimeError, MemoryError) as error:
            if options.traceback:
                raise
            _give_up_output()
            print(f"{self._name}: {error}{_hint(error)}", file=sys.stderr)
            return 2


def _give_up_output() -> None:
    """Where the output cannot be written, let Python not try it again, and complain, when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _hint(error: Exception) -> str:
    """What to do about an error that does not say so itself."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "; set micro_batch_size to a divisor of batch_size"
    return "" if isinstance(error, ValueError | OSError | FloatingPointError) else "; --traceback shows where"
