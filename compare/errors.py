"""The one exception whose message is meant for the user."""


class DiptychError(Exception):
    """A mistake that the user can mend: a file, a name or an option.

    The message is one line that names the culprit and the remedy. The command prints it and ends
    with `exit_code`; anything else that escapes is a bug and keeps its traceback.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(
            " ".join(line.strip() for line in str(message).splitlines() if line.strip())
        )
