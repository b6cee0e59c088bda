"""Pixels per cell of a decoder's output."""


def finer(reduction: float, factor: int) -> int | float:
    """Pixels per cell after upsampling by a factor; may be fractional, as 14 px by 4 gives 3.5.

    Raises:
        ValueError: The factor is below 1.
    """
    if factor < 1:
        raise ValueError(f"upsample is {factor}; expected a whole factor of at least 1.")
    exact = reduction / factor
    return int(exact) if exact == int(exact) else exact
