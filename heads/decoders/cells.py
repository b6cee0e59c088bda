"""Pixels per cell of what a decoder puts out."""


def finer(reduction: float, factor: int) -> int | float:
    """Pixels per cell after upsampling by a factor; 14 px by 4 are 3.5, which need not be whole.

    Raises:
        ValueError: The factor is below 1.
    """
    if factor < 1:
        raise ValueError(f"upsample is {factor}; expected a whole factor of at least 1.")
    exact = reduction / factor
    return int(exact) if exact == int(exact) else exact
