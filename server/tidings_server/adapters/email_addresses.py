"""E-mail addresses, as the library email-validator knows them. Nothing is asked of the network."""

from email_validator import EmailNotValidError, validate_email

MAX_BYTES = 320


def normal_address(given: str) -> str:
    """An address in its normal form. Raises ValueError saying what is wrong with it, without repeating it."""
    if len(given.encode(errors="surrogatepass")) > MAX_BYTES:
        raise ValueError(f"may have {MAX_BYTES} bytes at most")
    try:
        return validate_email(given, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError(f"is no address: {str(error).rstrip('.').replace(given, '...')}") from None
