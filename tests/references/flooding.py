"""Ishida et al., 2020: the loss |J − b| + b."""


def flooded(loss: float, level: float) -> float:
    return (loss - level if loss > level else level - loss) + level
