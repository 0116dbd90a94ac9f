"""letters: the number of a row or column from 1 in, its letters on plates and sheets out (Z, then AA), and back."""


def letters_of(number: int) -> str:
    """Return the letters of a number from 1.

    >>> letters_of(1), letters_of(26), letters_of(27), letters_of(32)
    ('A', 'Z', 'AA', 'AF')
    """
    letters = ""
    while number > 0:
        number, last = divmod(number - 1, 26)
        letters = chr(ord("A") + last) + letters
    return letters


def number_of(letters: str) -> int:
    """Return the number, from 1, of letters from A to Z in either case.

    >>> number_of("A"), number_of("af"), number_of("XFD")
    (1, 32, 16384)
    """
    number = 0
    for letter in letters.upper():
        number = 26 * number + ord(letter) - ord("A") + 1
    return number
