"""A plugin that Snakemake imports before it opens any file, so that studies are read strictly first; it logs nothing.

Snakemake reads the files of ``--configfile`` with a reader of its own before it comes to the Snakefile. That one ends
in a trace on text that is not UTF-8, on dates that are none or on deep nesting, waits at a named pipe, and runs what a
file with ``__use_yte__`` says. Nothing of Snakemake is changed for this: it imports what is called like a plugin while
it draws up its options, and that plugins of loggers are among these is all that makes this one a logger.
"""

import sys
from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase


def _look() -> None:
    """Look at the studies of this process, and forget the library: a Snakefile brings that of its own sources."""
    before = set(sys.modules)
    from hardscale.ops.early_look import look_at_studies

    look_at_studies(sys.argv)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "hardscale":
            del sys.modules[name]


_look()


class LogHandler(LogHandlerBase):
    """Logs nothing, should anybody choose it."""

    writes_to_stream = writes_to_file = has_filter = has_formatter = needs_rulegraph = False

    def emit(self, record: LogRecord) -> None:
        """Nothing."""
