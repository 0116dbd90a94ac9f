"""signs: what a check says -> its symbol, its word and its colour, the same on the page and in the terminal."""

from typing import Literal, NamedTuple

Light = Literal["good", "bad", "unsure", "unknown"]
"""What a check says: it passed, it speaks against the result, there is too little to judge, it was not made."""


class Sign(NamedTuple):
    """How one of these is shown; never by its colour alone."""

    symbol: str
    word: str
    colour: str
    """Its name, which programs read in the card of a report."""


SIGNS: dict[Light, Sign] = {
    "good": Sign("✓", "passed", "green"),
    "bad": Sign("✗", "doubtful", "red"),
    "unsure": Sign("?", "unclear", "amber"),
    "unknown": Sign("–", "not checked", "grey"),
}
SYMBOL_OF_COLOUR = {sign.colour: sign.symbol for sign in SIGNS.values()}
