"""letters: rows and columns are named as openpyxl names the columns of a sheet, and back."""

import string

from openpyxl.utils import column_index_from_string, get_column_letter

from cellssl.letters import letters_of, number_of


def test_letters_and_numbers_are_openpyxls_for_every_column_of_a_sheet() -> None:
    for number in range(1, 16_385):
        assert letters_of(number) == get_column_letter(number)
        assert number_of(letters_of(number).lower()) == column_index_from_string(letters_of(number)) == number


def test_the_first_rows_of_a_plate_have_one_letter_each() -> None:
    assert [letters_of(row) for row in range(1, 27)] == list(string.ascii_uppercase)
