"""The errors a user can cause or meet, each with its exit code.

Every error says what was found, where, and what to do next. The command line prints it as one line, or as
``{"error": {"kind", "message", "where", "fix"}}`` with ``--json``; it never shows a traceback for one of these.
"""

from __future__ import annotations


class OnebitError(Exception):
    """What was found (`message`), where (`where`: file, operator, tensor, shape) and what to do (`fix`).

    `exit_code` follows the command line contract: 1 verification failed, 2 bad input or usage, 3 a tool is missing.
    """

    kind = "error"
    exit_code = 2

    def __init__(self, message: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; {self.fix}" if self.fix else text

    def as_dict(self) -> dict[str, str]:
        """The object under ``error`` that ``--json`` prints."""
        return {"kind": self.kind, "message": self.message, "where": self.where, "fix": self.fix}


class BadInputError(OnebitError):
    """A file, option or data set that cannot be used (exit code 2)."""

    kind = "bad_input"


class UnsupportedError(BadInputError):
    """A legal model that uses what onebit does not support (exit code 2)."""

    kind = "unsupported"


class ToolMissingError(OnebitError):
    """A compiler, emulator or optional Python package is not installed (exit code 3)."""

    kind = "tool_missing"
    exit_code = 3


class VerificationError(OnebitError):
    """Two stages that must agree do not (exit code 1)."""

    kind = "verification_failed"
    exit_code = 1


class SpecError(OnebitError):
    """A graph breaks a rule of the IR's spec: after import the file is bad, after a pass the pass is wrong."""

    kind = "bad_graph"
