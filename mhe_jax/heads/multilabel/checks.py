"""Checks of fields that several heads for many labels have."""


def check_prior(prior: float) -> None:
    """Raises ValueError unless `prior` is a share of the labels."""
    if not 0 <= prior < 1:
        raise ValueError(f"config.head.prior is {prior}; it must be in [0, 1)")


def check_reduction(reduction: str) -> None:
    """Raises ValueError unless `reduction` is one of those of the sigmoid losses."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"config.head.reduction is {reduction!r}; it must be mean or sum")
