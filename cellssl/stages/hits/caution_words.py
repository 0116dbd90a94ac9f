"""caution_words: a caution on hits in; whether it is of the position of wells, or of the unit of effects, out."""

APART = "hardly a treated well, so that what differs between them and others looks like an effect of every treatment"
ZONE = "the plate: what differs between edge and inside looks like an effect of every treatment"
FIXED_LAYOUT = "most treatments lie in the same wells on all plates"
NO_UNIT = "no plate has two control wells"


def is_of_positions(caution: str) -> bool:
    """Return whether a caution is that the position of wells can look like an effect."""
    return any(words in caution for words in (APART, ZONE, FIXED_LAYOUT))


def is_of_unit(caution: str) -> bool:
    """Return whether a caution is that an effect of 1 is not as far as a typical control well."""
    return caution.startswith(NO_UNIT)
