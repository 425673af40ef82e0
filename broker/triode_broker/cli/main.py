"""The console script `triode`: arguments in, exit code out.

Knows how commands end, not what they do. The surprising decision: a command's module is imported when it is run,
so that a missing extra concerns only the command that needs it.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from triode_broker.cli.arguments import make_parser
from triode_broker.cli.exit_codes import INTERRUPTED, ExitCode, Failure
from triode_broker.printable import escape


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; wrong arguments leave by SystemExit(2)."""
    arguments = make_parser().parse_args(argv)
    command: Callable[[Namespace, Mapping[str, str]], ExitCode]
    command = import_module(f"triode_broker.cli.{arguments.command}").run
    try:
        return command(arguments, os.environ)
    except Failure as failure:
        lines = str(failure).split("\n")  # the message's own line ends stay; those in values were escaped before
        sys.stderr.write(f"triode {arguments.command}: " + "\n".join(map(escape, lines)) + "\n")
        return failure.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads stdout. Python would try to flush it once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
