"""Phone numbers, as the library phonenumbers knows the plans of all countries."""

import phonenumbers

MAX_LENGTH = 40


def normal_number(given: str) -> str:
    """A number as E.164 writes it. Raises ValueError saying what is wrong with it, without repeating it."""
    if not given.startswith("+") or len(given) > MAX_LENGTH:
        raise ValueError('must be in the international form, such as "+4930901820"')
    try:
        number = phonenumbers.parse(given, None)
    except phonenumbers.NumberParseException as error:
        raise ValueError("is no phone number of any country") from error
    if number.extension:
        raise ValueError("may have no extension: no message reaches one")
    if not phonenumbers.is_valid_number(number):
        raise ValueError("is no phone number of its country: too short, too long, or not given to anybody")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
