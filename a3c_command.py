"""The console script `a3c`: apart from the package, which takes seconds to import torch.

A Ctrl-C in the meantime ends with a line, as it does later.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def main() -> int:
    """Import the command line, and run it; returns the exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, leave)
    from a3c import cli

    signal.signal(signal.SIGINT, before)
    return cli.main()


def leave(_number: int, _frame: Any) -> None:
    """End at once: nothing has begun, and what is half imported need not be unwound."""
    print("a3c: interrupted", file=sys.stderr, flush=True)
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
