"""The console script `triode`: arguments in, exit code out.

Knows how commands end, not what they do. The surprising decision: everything else is imported inside `main`. So a
missing extra concerns only the command that needs it, and a Ctrl-C during the imports ends like any other.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from triode_broker.cli.exit_codes import INTERRUPTED, ExitCode, Failure
from triode_broker.cli.streams import drop_stdout, hold_closed_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; wrong arguments leave by SystemExit(2)."""
    hold_closed_streams()
    command = ""
    try:
        arguments = import_module("triode_broker.cli.arguments").parse(argv)
        command = f" {arguments.command}"
        module = arguments.command.replace("-", "_")
        code: int = import_module(f"triode_broker.cli.{module}").run(arguments, os.environ)
    except Failure as failure:
        escape = import_module("triode_broker.printable").escape
        lines = str(failure).split("\n")  # the message's own line ends stay; those in values were escaped before
        sys.stderr.write(f"triode{command}: " + "\n".join(map(escape, lines)) + "\n")
        return failure.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads stdout
        drop_stdout()
        return ExitCode.OK
    return code
