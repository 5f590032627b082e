"""The one exception that means: what the user gave cannot work, and this line says what to do."""


class InputError(ValueError):
    """Bad input. Its message is one line; the scripts print it and exit with code 2."""
