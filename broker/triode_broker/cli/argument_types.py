"""Forms of arguments that several commands share. Knows argparse's way to refuse, no command."""

import argparse


def window(text: str) -> float:
    """A number of seconds that may be 0, as an argument."""
    return 0.0 if text.strip() == "0" else seconds(text)


def seconds(text: str) -> float:
    """A positive number of seconds, as an argument."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def count(text: str) -> int:
    """A positive whole number, as an argument."""
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
